"""The life of a process: settings, logs, one main coroutine, signals, and the exit code."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn, Protocol, TypeVar

import structlog

from libs.chassis.logs import configure_logs
from libs.chassis.settings import SettingsError, load_settings
from libs.chassis.tasks import keep_cancellations
from libs.chassis.usage import Usage, usage_text

EXIT_CRASH = 1
EXIT_BAD_SETTINGS = 2


class ProgramSettings(Protocol):
    """What every service's settings have."""

    @property
    def log_level(self) -> str:
        """One of libs.chassis.logs.LEVELS."""
        ...

    @property
    def log_format(self) -> str:
        """One of libs.chassis.logs.FORMATS."""
        ...


S = TypeVar("S", bound=ProgramSettings)


def run(
    service: str,
    settings_class: type[S],
    main: Callable[[S, asyncio.Event], Awaitable[int | None]],
    usage: Usage,
    arguments: Sequence[str],
) -> NoReturn:
    """Run a service until SIGTERM or SIGINT and exit: 0 clean, 1 crash, 2 bad settings or arguments.

    main gets the settings and an event that is set by the first signal; it returns when everything is closed, with an
    exit code if it has one of its own. Arguments are those of the command line after the command: --help prints the
    usage, and there are no others.
    """
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(usage_text(usage, settings_class))
        sys.exit(0)
    if arguments:
        sys.stderr.write(f"{service}: {arguments[0]!r} is no argument; {usage.command} --help tells what there is\n")
        sys.exit(EXIT_BAD_SETTINGS)
    try:
        settings = load_settings(settings_class, os.environ)
    except SettingsError as error:
        _refuse(service, error)
    configure_logs(service, settings.log_level, settings.log_format)
    log = structlog.get_logger()

    async def supervised() -> int | None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        log.info("started")
        return await main(settings, stop)

    keep_cancellations()
    try:
        code = asyncio.run(supervised())
    except SettingsError as error:
        # Some settings show only in use whether they can be used, such as a file that a variable names.
        _refuse(service, error)
    except BaseException as error:  # The process ends here: what ended it must be in the log, whatever it was.
        log.exception("crashed", exc_info=error)
        sys.exit(EXIT_CRASH)
    log.info("stopped")
    sys.exit(code or 0)


def _refuse(service: str, error: SettingsError) -> NoReturn:
    lines = [f"{service}: the environment cannot be used:", *(f"  {problem}" for problem in error.problems)]
    sys.stderr.write("\n".join(lines) + "\n")
    sys.exit(EXIT_BAD_SETTINGS)

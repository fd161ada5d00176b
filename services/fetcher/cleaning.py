"""`python -m services.fetcher clean` takes everything of OME off the model roots of a node that is given back.

Needs neither NATS nor Kubernetes. Must not touch what OME did not put there, nor a root that a fetcher serves.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import structlog

from libs.artifact.places import STATE_DIRECTORY
from libs.chassis.errors import ServiceError
from libs.chassis.logs import FORMATS, LEVELS
from libs.chassis.settings import setting
from services.fetcher.store.artifacts import Store
from services.fetcher.store.paths import host_path
from services.fetcher.store.space import Reservations

_SOMETHING_STAYED = 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the roots are. Like a fetcher's, but without a default: nothing is removed by accident."""

    host_root: Path = setting(help="Directory below which the node's file system is mounted, such as /host.")
    model_roots: tuple[str, ...] = setting(help="Directories to clean, as the node sees them, such as /models.")
    log_level: str = setting("info", choices=LEVELS, help="Least severe level that is logged.")
    log_format: str = setting("json", choices=FORMATS, help="Form of a log line.")


async def main(settings: Settings, stop: asyncio.Event) -> int:
    """Clean the roots one after the other; 1 if something had to stay, which the log names. It ends by itself."""
    return await asyncio.to_thread(_clean, settings)


def _clean(settings: Settings) -> int:
    log, code = structlog.get_logger(), 0
    for root in settings.model_roots:
        directory = host_path(settings.host_root, root)
        if not (directory / STATE_DIRECTORY).is_dir():
            log.info("root_holds_nothing", root=root)
            continue
        try:
            with Store(directory, root, Reservations()) as store:
                stayed = store.clear()
        except ServiceError as error:
            stayed = [error.message]
        for message in stayed:
            log.error("root_not_cleaned", root=root, message=message)
            code = _SOMETHING_STAYED
        if not stayed:
            log.info("root_cleaned", root=root)
    return code

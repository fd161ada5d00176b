"""Runs a program whose clock on the wall can be set while it runs, as a person or NTP does it.

    python -m tests.support.wall_clock FILE MODULE [ARGUMENT ...]

FILE holds the seconds that the program's clock is off, and is read at each look. time.time and datetime.now are
shifted; monotonic clocks go on, as they do when a clock is set. Setting the real clock would need the superuser and
would hit everything else on the machine.
"""

import datetime
import runpy
import sys
import time
from pathlib import Path
from typing import Any


def set_clock(file: Path, seconds: float) -> None:
    """Let the clock of the program that reads file be off by so many seconds from now on."""
    temporary = file.with_suffix(".new")
    temporary.write_text(str(seconds))
    temporary.replace(file)


def main() -> None:
    """Replace the clock of this process and become the module that is named."""
    file, module, *arguments = sys.argv[1:]
    real = time.time

    def shifted() -> float:
        return real() + float(Path(file).read_text())

    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return cls.fromtimestamp(shifted(), tz)

    time.time = shifted
    datetime.datetime = Shifted  # type: ignore[misc]
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

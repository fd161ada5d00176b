"""Which processes a process has started, as the kernel knows it."""

import contextlib
import os
from pathlib import Path


def child_processes(of: int | None = None) -> list[int]:
    """Children of a process, of this one by default, that have not ended."""
    found: list[int] = []
    for task in Path(f"/proc/{of or os.getpid()}/task").iterdir():
        # A thread may end while the others are looked at.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return found

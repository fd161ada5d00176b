"""Runs promtool, which is built from the pinned module of Prometheus when a test first needs it."""

import functools
import os
import subprocess
from pathlib import Path

from tools.localcluster.builds import Builder
from tools.localcluster.programs import PROMTOOL, obtain


@functools.cache
def program() -> Path:
    """The program; built first on a machine that has none, which takes minutes once."""
    return obtain(Builder(os.environ).build, os.environ, (PROMTOOL,))[PROMTOOL.name]


def promtool(*arguments: str, stdin: str = "", status: int = 0) -> str:
    """What promtool prints; anything but the expected status fails the test with it."""
    found = subprocess.run(
        [program(), *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    said = found.stdout + found.stderr
    assert found.returncode == status, f"promtool {' '.join(arguments)}: {said}"
    return said

"""Finds Chromium, or unpacks Debian's with its libraries into the user's cache, without root's rights.

Two runs at once unpack once, and a run that is killed half-way leaves nothing that a later one could take for whole.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_UNPACKED = Path("usr", "lib", "chromium", "chromium")


class NoBrowser(RuntimeError):
    """There is no browser, and none can be had; the message says what to do."""


@dataclass(frozen=True)
class Browser:
    """A program, and the variables that it needs."""

    program: Path
    environ: Mapping[str, str]


def find_browser(cache: Path, environ: Mapping[str, str]) -> Browser:
    """The browser that OME_CHROMIUM names, that is installed, or that is unpacked below cache. Raises NoBrowser."""
    named = environ.get("OME_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if named:
        return Browser(Path(named), {})
    folder = cache / "chromium"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _UNPACKED).exists():
            _unpack(cache, folder)
    libraries = sorted({str(path.parent) for path in folder.rglob("*.so*")})
    # Its fonts are found by the usual file, where there is one; without any, Chromium brings none of its own.
    return Browser(folder / _UNPACKED, {"LD_LIBRARY_PATH": os.pathsep.join(libraries)})


def _unpack(cache: Path, folder: Path) -> None:
    for program in ("apt-get", "dpkg-deb"):
        if not shutil.which(program):
            raise NoBrowser("no Chromium was found: install it, or name it in OME_CHROMIUM")
    unfinished = cache / ".unpacking"
    shutil.rmtree(unfinished, ignore_errors=True)
    packages = unfinished / "packages"
    packages.mkdir(parents=True)
    print("fetching Chromium from Debian (about 120 MB)", file=sys.stderr, flush=True)
    # What is installed already is not named, so that the libraries fit those of this machine.
    planned = _run(["apt-get", "--simulate", "--no-install-recommends", "install", "chromium"], unfinished)
    wanted = [line.split()[1] for line in planned.splitlines() if line.startswith("Inst ")]
    _run(["apt-get", "download", *wanted], packages)
    for package in sorted(packages.iterdir()):
        _run(["dpkg-deb", "--extract", str(package), str(unfinished / "root")], unfinished)
    (unfinished / "root").rename(folder)
    shutil.rmtree(unfinished)


def _run(command: list[str], folder: Path) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise NoBrowser(
            f"no Chromium was found, and `{' '.join(command[:3])}` failed: install it, or name it in OME_CHROMIUM\n"
            + result.stderr[-2000:]
        )
    return result.stdout

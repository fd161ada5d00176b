"""Installs what drives a browser from its lock: it is larger than all of .venv, and only few tests want it."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parents[2] / "3rdparty" / "python" / "browser.lock"


def installed_driver(cache: Path) -> Path:
    """The folder that holds the packages of the lock, as an entry of PYTHONPATH."""
    folder = cache / f"driver-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".driver.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = cache / ".installing"
            shutil.rmtree(unfinished, ignore_errors=True)
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
            command += ["--only-binary", ":all:", "--target", str(unfinished), "--requirement", str(LOCK)]
            subprocess.run(command, check=True)
            unfinished.rename(folder)
    return folder

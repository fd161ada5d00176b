"""Installs the packages of one lock into a folder of the user's cache, for what `.venv` shall not hold."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

LOCKS = Path(__file__).parents[2] / "3rdparty" / "python"


def installed_packages(lock: str, cache: Path) -> Path:
    """The folder that holds the packages of `lock`, such as `browser.lock`, as an entry of PYTHONPATH.

    Two runs at once install once; a run that is killed half-way leaves nothing that a later one could take for whole.
    """
    path = LOCKS / lock
    folder = cache / f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{path.stem}.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = cache / f".installing-{path.stem}"
            shutil.rmtree(unfinished, ignore_errors=True)
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            command += ["--require-hashes", "--only-binary", ":all:", "--target", str(unfinished)]
            subprocess.run([*command, "--requirement", str(path)], check=True)
            unfinished.rename(folder)
    return folder

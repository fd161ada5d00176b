"""An earlier commit of this repository, which stands for the release before the present one as long as there is none.

Owns which commit that is, and its images. Nothing of the clone changes.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tools.images.build import ROOT, SERVICES
from tools.localcluster.programs import cache_folder

# The last one before nodes learned of Pods, revisions and evictions, with everything that a site needs to install it.
COMMIT = "43d8ae2e5b37b298449ca561153d1c3fe5b9602d"
REGISTRY = "localhost/earlier"


def is_in_history() -> bool:
    """Whether the commit is in this clone; a shallow one, or an export, does not have it."""
    command = ["git", "cat-file", "-e", f"{COMMIT}^{{commit}}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


def check_out(folder: Path) -> None:
    """Write the files of the commit into an empty folder."""
    archive = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)


def archives() -> list[Path]:
    """The archives of its images, where `build` puts them."""
    return [_folder() / f"{service}.tar" for service in SERVICES]


def build(announce: Callable[[str], None]) -> None:
    """Build its images by its own commands, once for this user; not where the commit is not in the history."""
    if not is_in_history() or all(archive.exists() for archive in archives()):
        return
    announce("building the images of an earlier version (about 5 min, once)")
    # A clone, as its commands ask git.
    clone = ROOT / "dist" / "e2e" / "earlier"
    shutil.rmtree(clone, ignore_errors=True)
    unfinished = _folder().with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    _run(ROOT, "git", "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(clone))
    _run(clone, "git", "checkout", "--quiet", "--detach", COMMIT)
    _run(clone, "make", "package")
    image = ("-m", "tools.images", "build", "--repository", f"{REGISTRY}/ome", "--output", str(unfinished))
    _run(clone, ".venv/bin/python", *image)
    unfinished.rename(_folder())
    shutil.rmtree(clone)


def _folder() -> Path:
    return cache_folder(os.environ) / f"images-{COMMIT[:16]}"


def _run(folder: Path, *command: str) -> None:
    # The clone has a virtual environment of its own, and its own modules.
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    subprocess.run(command, cwd=folder, env=environ, check=True)

"""Runs the generator of the site, whose packages are apart from `.venv` and are imported by its processes only."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tools.bootstrap.packages import installed_packages
from tools.docs.staging import REPOSITORY, lay_out

_SITE = Path(__file__).parent / "site"


class NotBuilt(RuntimeError):
    """The site was not built; the message is what the generator said."""


class Generator:
    """Sphinx with its theme and the drawer of diagrams, of the lock `docs.lock`."""

    def __init__(self, cache: Path, environ: Mapping[str, str]) -> None:
        self._environ = {**environ, "PYTHONPATH": str(installed_packages("docs.lock", cache / "docs"))}

    def build(self, out: Path) -> Path:
        """Write the site below `out`; return the folder of its pages. A warning, as of a broken link, is an error."""
        source, pages = out / "source", out / "site"
        lay_out(source, self.draw)
        shutil.rmtree(pages, ignore_errors=True)
        command = ["sphinx", "-b", "html", "-q", "-E", "-n", "-W", "--keep-going", "-j", "2"]
        self._run([*command, "-c", str(_SITE), "-d", str(out / "doctrees"), str(source), str(pages)])
        return pages

    def draw(self, diagram: str) -> str:
        """A diagram in Mermaid as SVG."""
        return self._run(["mermaidx", "-i", "-"], diagram)

    def _run(self, module: list[str], text: str = "") -> str:
        ended = subprocess.run(
            [sys.executable, "-m", *module],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            cwd=REPOSITORY,
            env={**self._environ, "LC_ALL": os.environ.get("LC_ALL", "C.UTF-8")},
        )
        if ended.returncode != 0:
            raise NotBuilt(f"{module[0]} ended with status {ended.returncode}:\n{ended.stdout}{ended.stderr}")
        return ended.stdout

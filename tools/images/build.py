"""Decides what lies in which layer of a service's image: Debian below, third parties above it, our code on top."""

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools.images import debian, dockerfile, layout

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "deploy" / "images"
SERVICES = ("controller", "fetcher", "parser", "status")
BASE_PATH = "/usr/bin"
INTERPRETER = "/usr/bin/python3.11"
LAYERS = {"theirs": "third parties of the executable", "ours": "sources of the executable"}


class BuildFailed(RuntimeError):
    """A command of a Dockerfile failed; the message ends with what it said."""


@dataclass(frozen=True)
class Provenance:
    """What an image says of where it comes from. `created` is the time of the commit, in RFC 3339."""

    version: str
    revision: str
    created: str


def base_layer(archive: debian.Archive, packages: list[debian.Package]) -> layout.Layer:
    """Debian's Python and what it needs."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        debian.unpack(((package, archive.fetch(package)) for package in packages), root)
        return layout.layer(root, "packages of deploy/images/debian.lock")


def image(service: str, executables: Path, base: layout.Layer, name: str, provenance: Provenance) -> bytes:
    """The archive of a service's image, as its Dockerfile describes it; `executables` holds <service>.pex."""
    described = dockerfile.read((IMAGES / service / "Dockerfile").read_text(), BASE_PATH)
    layers = [base]
    last = described.stages[-1]
    for stage in described.stages[:-1]:
        if stage.name in last.copied:
            layers.append(_stage_layer(stage, executables))
    config = {
        "User": described.user,
        "Env": [f"{key}={value}" for key, value in described.environment.items()],
        "Entrypoint": described.entrypoint,
        "WorkingDir": "/",
        "Labels": {
            "org.opencontainers.image.title": f"ome-{service}",
            "org.opencontainers.image.version": provenance.version,
            "org.opencontainers.image.revision": provenance.revision,
            "org.opencontainers.image.licenses": "Apache-2.0",
        },
    }
    return layout.archive(layers, config, provenance.created, name, debian.ARCHITECTURE)


def _stage_layer(stage: dockerfile.Stage, executables: Path) -> layout.Layer:
    """Run the commands of a stage on this machine, with its /app in a folder of our own."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        environ = {
            "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ.get('PATH', os.defpath)}",
            "HOME": folder,
            "PEX_ROOT": f"{folder}/pex-root",
            # Set, so that two runs write the same bytes: names hash alike, and compiled files carry no time.
            "PYTHONHASHSEED": "0",
            "SOURCE_DATE_EPOCH": "0",
        }
        for command in stage.commands:
            here = re.sub(r"(?<= )/(\w+\.pex)\b", rf"{executables}/\1", command)
            here = re.sub(r"(?<= )/app\b", f"{root}/app", here)
            # A compiled file names its source: the path in the image, not that of this folder.
            here = here.replace("-m compileall", f"-m compileall -s {root} -p /")
            ran = subprocess.run(
                ["/bin/sh", "-euc", here], env=environ, cwd=root, check=False, capture_output=True, text=True
            )
            if ran.returncode:
                raise BuildFailed(f"{command}\n{ran.stderr[-4000:]}")
        content = root / "content"
        packages = Path("app/lib/python3.11/site-packages")
        (content / packages).parent.mkdir(parents=True)
        (root / packages).rename(content / packages)
        if stage.name == "theirs":
            _virtual_environment(content / "app")
        return layout.layer(content, LAYERS[stage.name])


def _virtual_environment(app: Path) -> None:
    """What makes a folder a virtual environment of the image's own Python."""
    (app / "bin").mkdir()
    for name in ("python", "python3", "python3.11"):
        (app / "bin" / name).symlink_to(INTERPRETER)
    (app / "pyvenv.cfg").write_text(f"home = {BASE_PATH}\ninclude-system-site-packages = false\n")

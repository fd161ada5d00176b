"""The images that a node imports: of our services, built once for the same sources, and of single programs."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tools.images import debian, layout
from tools.images.build import ROOT, SERVICES
from tools.node.configuration import PAUSE_IMAGE

REGISTRY = "localhost"
NATS_IMAGE = (f"{REGISTRY}/nats", "e2e")
FOLDER = ROOT / "dist" / "e2e"
# What an image of a service is made of.
_INPUTS = ("services", "libs", "proto", "3rdparty", "deploy/images", "tools/images", "tools/build", "pants.toml")
_CREATED = "1970-01-01T00:00:00Z"


def build_services(announce: Callable[[str], None]) -> None:
    """Build executables and images, unless the sources are those of the last build."""
    stamp, inputs = FOLDER / "inputs.sha256", digest_of_inputs(ROOT)
    if not stamp.exists() or stamp.read_text() != inputs or not all(archive.exists() for archive in built()):
        announce("building the images of the services (about 4 min)")
        stamp.unlink(missing_ok=True)
        _run("make", "package")
        build = (sys.executable, "-m", "tools.images", "build", "--repository", f"{REGISTRY}/ome")
        _run(*build, "--output", str(FOLDER))
        stamp.write_text(inputs)


def built() -> list[Path]:
    """The archives of our images, where `build_services` puts them."""
    return [FOLDER / f"{service}.tar" for service in SERVICES]


def digest_of_inputs(root: Path) -> str:
    """SHA-256 over the names and contents of all files, committed or not, that images are made of."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard", "--", *_INPUTS],
        cwd=root,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    hashed = hashlib.sha256()
    for name in sorted(filter(None, listed.split("\0"))):
        path = root / name
        if path.is_file():
            hashed.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return hashed.hexdigest()


def of_programs(programs: Mapping[str, Path], folder: Path) -> list[Path]:
    """Archives of images that hold one static program: pause, CoreDNS and NATS. Written once for each version."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _archive(folder, PAUSE_IMAGE, programs["pause"], "pause"),
        _archive(folder, f"{REGISTRY}/coredns:1", programs["coredns"], "coredns"),
        # Where Docker's image has it, which the chart's preStop names.
        _archive(folder, ":".join(NATS_IMAGE), programs["nats-server"], "nats-server"),
    ]


def _archive(folder: Path, name: str, program: Path, inside: str) -> Path:
    archive = folder / f"{program.name}.tar"
    if archive.exists() and archive.stat().st_mtime > program.stat().st_mtime:
        return archive
    with tempfile.TemporaryDirectory() as root:
        content = Path(root) / inside
        shutil.copyfile(program, content)
        content.chmod(0o755)
        for empty in ("tmp", "etc"):
            (Path(root) / empty).mkdir()
        layers = [layout.layer(Path(root), f"{inside} as the cache has it")]
    config = {"Entrypoint": [f"/{inside}"], "Env": ["PATH=/"], "WorkingDir": "/"}
    unfinished = archive.with_suffix(".unfinished")
    unfinished.write_bytes(layout.archive(layers, config, _CREATED, name, debian.ARCHITECTURE))
    return unfinished.replace(archive)


def _run(*command: str | Iterable[str]) -> None:
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True)

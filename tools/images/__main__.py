"""Builds the images of the services into dist/images, checks them, and pins the packages of Debian below them."""

import argparse
import functools
import json
import os
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import yaml

from tools.images import attestation, build, check, debian, layout, registry, sbom
from tools.node import userland

# The commit has them as well; by their digests, who knows only the locks finds the images made from them.
_LOCKS = ("deploy/images/debian.lock", "3rdparty/python/default.lock")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ome" / "debian"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.images", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="write dist/images/<service>.tar, an OCI archive for each service")
    building.add_argument("--service", action="append", choices=build.SERVICES, help="only this one; may be repeated")
    building.add_argument("--executables", type=Path, default=build.ROOT / "dist", help="folder with <service>.pex")
    building.add_argument("--output", type=Path, default=build.ROOT / "dist" / "images")
    building.add_argument(
        "--repository", default="ome", help="registry and path that the names of the images start with"
    )
    building.add_argument(
        "--debian", default=debian.ARCHIVE, metavar="URL", help="mirror of Debian's archives: <URL>/debian/pool/..."
    )
    checking = commands.add_parser("check", help="start what an image holds (as root, in its own file system)")
    checking.add_argument("archives", nargs="+", type=Path)
    locking = commands.add_parser("lock", help="pin the newest packages of Debian, and images of others by digest")
    locking.add_argument("--debian", default=debian.ARCHIVE, metavar="URL")
    locking.add_argument("--registry", default=registry.HUB, metavar="URL", help="mirror of Docker's registry")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "lock":
            _lock(chosen.debian)
            _pin(chosen.registry)
        elif chosen.command == "check":
            for archive in chosen.archives:
                print(f"{archive}: {check.starts(archive)}")
        else:
            _build(
                chosen.service or list(build.SERVICES),
                chosen.executables.resolve(),
                chosen.output,
                chosen.repository,
                chosen.debian,
            )
    except (
        debian.PackagesUnavailable,
        build.BuildFailed,
        check.ImageBroken,
        sbom.Unrecorded,
        registry.DigestUnknown,
    ) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _build(services: list[str], executables: Path, output: Path, repository: str, mirror: str) -> None:
    text = debian.LOCK.read_text()
    provenance = _provenance()
    changed = bool(_git("status", "--porcelain"))
    locks = {path: (build.ROOT / path).read_bytes() for path in _LOCKS}
    packages = debian.read_lock(text)
    base = build.base_layer(debian.Archive(CACHE, debian.snapshot_of(text), mirror), packages)
    output.mkdir(parents=True, exist_ok=True)
    for service in services:
        started = time.monotonic()
        name = f"{repository}/{service}:{provenance.version}"
        content = build.image(service, executables, base, name, provenance)
        (output / f"{service}.tar").write_bytes(content)
        (output / f"{service}.cdx.json").write_bytes(sbom.document(content, name, packages))
        written = check.manifest_bytes(content)
        statement = attestation.document(name, layout.digest(written), provenance.revision, changed, locks)
        (output / f"{service}.intoto.json").write_bytes(statement)
        sizes = [each["size"] / 1e6 for each in json.loads(written)["layers"]]
        print(
            f"{name} {layout.digest(written)}: {sum(sizes):.0f} MB compressed "
            f"(layers {', '.join(f'{size:.1f}' for size in sizes)}), {time.monotonic() - started:.0f} s"
        )


def _provenance() -> build.Provenance:
    chart = yaml.safe_load((build.ROOT / "deploy" / "helm" / "controller" / "Chart.yaml").read_text())
    revision, seconds = _git("log", "-1", "--format=%H %ct").split() or ("", "0")
    created = datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return build.Provenance(str(chart["appVersion"]), revision, created)


def _git(*arguments: str) -> str:
    """What git says of these files; empty where they are not in a repository."""
    return subprocess.run(["git", *arguments], cwd=build.ROOT, check=False, capture_output=True, text=True).stdout


def _lock(mirror: str) -> None:
    indexes = []
    for archive, path in debian.INDEXES:
        with urllib.request.urlopen(f"{mirror}/{archive}/{path}", timeout=60) as answer:
            indexes.append((archive, answer.read()))
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    debian.LOCK.write_text(debian.lock(indexes, now))
    userland.LOCK.write_text(debian.lock(indexes, now, userland.PACKAGES, userland.USE))


def _pin(address: str) -> None:
    known = functools.cache(functools.partial(registry.digest_of, registry=address))
    values = build.ROOT / "deploy" / "helm" / "nats" / "values.yaml"
    for path in (values, *(build.IMAGES / service / "Dockerfile" for service in build.SERVICES)):
        path.write_text(registry.pinned(path.read_text(), known))


if __name__ == "__main__":
    sys.exit(main())

"""Audits the repository: prints one line for each finding, and ends with 1 if there is any."""

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tools.audit import keys, licences, permissions, pins, vulnerabilities
from tools.audit.checkout import ROOT, tracked_files
from tools.audit.finding import Finding, NotChecked
from tools.images import build, debian
from tools.localcluster.builds import Builder
from tools.localcluster.programs import obtain

LOCKS = ROOT / "3rdparty" / "python"
# What the versions of Pants 2.17 are is not ours to choose, and it reads nothing but the checkout.
NOT_OURS = ("pants.lock",)
REGISTRY = "registry.example.com/"


def main(arguments: list[str] | None = None) -> int:
    checks: Mapping[str, Callable[[], list[Finding]]] = {
        "keys": lambda: keys.check(tracked_files(), ROOT),
        "licences": _licences,
        "permissions": _permissions,
        "pins": _pins,
        "vulnerabilities": lambda: asyncio.run(vulnerabilities.check(locked(), chosen.osv)),
    }
    parser = argparse.ArgumentParser(prog="python -m tools.audit", description=__doc__)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"only these of {', '.join(checks)}")
    parser.add_argument("--osv", default=vulnerabilities.OSV, metavar="URL", help="mirror of the database OSV")
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.checks) - set(checks)):
        parser.error(f"there is no check {', '.join(unknown)}")
    found: list[Finding] = []
    for name in chosen.checks or checks:
        try:
            found += checks[name]()
        except NotChecked as error:
            print(f"{name}: not checked, because {error}", file=sys.stderr)
    for finding in found:
        print(finding)
    return 1 if found else 0


def locked() -> list[vulnerabilities.Pin]:
    """Everything that the locks pin, for the images and for developers."""
    python = [path for path in sorted(LOCKS.glob("*.lock")) if path.name not in NOT_OURS]
    return [
        *(pin for path in python for pin in vulnerabilities.python_pins(path.name, path.read_text())),
        *vulnerabilities.debian_pins(debian.LOCK.name, debian.LOCK.read_text()),
    ]


def rendered() -> list[dict[str, Any]]:
    """What the chart of a whole installation makes."""
    helm = obtain(Builder(os.environ).build, os.environ)["helm"]
    arguments = ("template", "ome", str(ROOT / "deploy" / "helm" / "ome"), "--namespace", "ome")
    shown = subprocess.run(
        [helm, *arguments, "--set", f"global.imageRegistry={REGISTRY.rstrip('/')}"],
        check=True,
        capture_output=True,
        text=True,
    )
    return [item for item in yaml.safe_load_all(shown.stdout) if item]


def _licences() -> list[Finding]:
    return licences.check(licences.required((LOCKS / "requirements.in").read_text().splitlines()))


def _permissions() -> list[Finding]:
    return permissions.check_code(permissions.service_sources(ROOT)) + permissions.check_charts(rendered())


def _pins() -> list[Finding]:
    def name(path: Path) -> str:
        return path.relative_to(ROOT).as_posix()

    found = pins.check_charts(rendered(), REGISTRY)
    for service in build.SERVICES:
        path = build.IMAGES / service / "Dockerfile"
        found += pins.check_dockerfile(name(path), path.read_text())
    return found + pins.check_debian(name(debian.LOCK), debian.LOCK.read_text())


if __name__ == "__main__":
    sys.exit(main())

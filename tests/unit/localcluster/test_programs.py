import os
from pathlib import Path

import pytest

from tools.localcluster.programs import (
    MODULES,
    PROGRAMS,
    Program,
    Version,
    cache_folder,
    is_suitable,
    locate,
    pin_of,
    pinned_version,
)

PROGRAM = {program.name: program for program in PROGRAMS}
PINNED = Version(1, 36, 3)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("Kubernetes v1.36.3", Version(1, 36, 3)),
        ("etcd Version: 3.6.8\nGit SHA: 1234567\nGo Version: go1.26.1", Version(3, 6, 8)),
        ("nats-server: v2.15.2", Version(2, 15, 2)),
        ("v4.3.0+gabcdef", Version(4, 3, 0)),
        ("Client Version: v1.32.4-dispatcher", Version(1, 32, 4)),
        ("unknown flag", None),
    ],
)
def test_version_is_read_from_what_each_program_prints(output: str, expected: Version | None) -> None:
    assert Version.parse(output) == expected


@pytest.mark.parametrize(
    ("name", "found", "suits"),
    [
        ("kube-apiserver", Version(1, 36, 0), True),
        ("kube-apiserver", Version(1, 37, 1), True),
        ("kube-apiserver", Version(1, 35, 9), False),
        ("kube-controller-manager", Version(1, 37, 0), False),
        ("kubectl", Version(1, 35, 0), True),
        ("kubectl", Version(1, 32, 4), False),
        ("kubectl", Version(2, 36, 0), False),
    ],
)
def test_program_found_elsewhere_must_fit_the_version_skew_policy(name: str, found: Version, suits: bool) -> None:
    assert is_suitable(PROGRAM[name], found, PINNED) is suits


def test_nats_server_older_than_the_first_with_a_ttl_per_key_is_refused() -> None:
    pinned = pin_of(PROGRAM["nats-server"])
    assert is_suitable(PROGRAM["nats-server"], Version(2, 11, 0), pinned)
    assert not is_suitable(PROGRAM["nats-server"], Version(2, 10, 29), pinned)


def test_pin_is_read_from_single_and_block_requirements() -> None:
    assert pinned_version("module x\n\nrequire helm.sh/helm/v4 v4.3.0\n", "helm.sh/helm/v4") == Version(4, 3, 0)
    assert pinned_version("require (\n\ta.example/b v1.2.3\n\tc v0.0.1\n)\n", "a.example/b") == Version(1, 2, 3)
    with pytest.raises(ValueError, match="does not require"):
        pinned_version("require a v1.0.0", "b")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_every_program_is_pinned_with_its_hash(program: Program) -> None:
    sums = (MODULES / program.folder / "go.sum").read_text()
    assert f"{program.module} v{pin_of(program)} h1:" in sums


def test_assets_folder_comes_before_path_and_unsuitable_programs_are_passed_over(tmp_path: Path) -> None:
    environ = {
        "KUBEBUILDER_ASSETS": str(tmp_path / "assets"),
        "PATH": f"{tmp_path / 'old'}{os.pathsep}{tmp_path / 'path'}",
        "HOME": str(tmp_path),
    }
    kubectl = PROGRAM["kubectl"]
    assert locate(kubectl, environ) is None
    _fake(tmp_path / "old" / "kubectl", "v1.20.0")
    assert locate(kubectl, environ) is None
    on_path = _fake(tmp_path / "path" / "kubectl", str(pin_of(kubectl)))
    assert locate(kubectl, environ) == on_path
    in_assets = _fake(tmp_path / "assets" / "kubectl", str(pin_of(kubectl)))
    assert locate(kubectl, environ) == in_assets


def test_cache_is_used_when_nothing_suitable_is_installed(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    assert cache_folder(environ) == tmp_path / "ome" / "bin"
    cached = _fake(tmp_path / "ome" / "bin" / f"helm-{pin_of(PROGRAM['helm'])}", "anything")
    assert locate(PROGRAM["helm"], environ) == cached


def _fake(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return path

"""The image of the fetcher leaves most of Oracle's SDK out: what stays is enough for every identity and request."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "images" / "fetcher" / "Dockerfile"
PACKAGES = "/app/lib/python3.11/site-packages"
# Tests that list and fetch as each of the four principals, and renew what they were given.
ENOUGH = "whole_line or passphrase or resource_principal or own_signers or revoked or region"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SDK as the Dockerfile's own command leaves it."""
    folder = tmp_path_factory.mktemp("packages")
    spec = importlib.util.find_spec("oci")
    assert spec
    assert spec.submodule_search_locations
    [installed] = map(Path, spec.submodule_search_locations)
    (folder / "oci").mkdir()
    for path in installed.iterdir():
        if path.is_dir():
            # Removed by name like a folder of its own, but what is in it is the installed one's.
            (folder / "oci" / path.name).mkdir()
            for inner in path.iterdir():
                (folder / "oci" / path.name / inner.name).symlink_to(inner)
        else:
            (folder / "oci" / path.name).symlink_to(path)
    [command] = re.findall(rf"find {PACKAGES}/oci [^&]* -exec rm -r {{}} \+", DOCKERFILE.read_text())
    subprocess.run(["sh", "-euc", command.replace(PACKAGES, str(folder))], check=True)
    return folder


def run(packages: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (packages, ROOT, ROOT / "proto")))
    environ = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], env=environ, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_services_that_are_not_used_are_left_out(packages: Path) -> None:
    left = run(packages, "-c", "import oci; print(oci.__file__); oci.object_storage; oci.core")

    assert str(packages) in left.stdout
    assert "No module named 'oci.core'" in left.stderr
    assert len([path for path in (packages / "oci").iterdir() if path.is_dir()]) < 12


def test_what_stays_is_enough_for_every_identity(packages: Path) -> None:
    passed = run(packages, "-m", "pytest", "-q", "tests/contract/sources/test_oracle.py", "-k", ENOUGH)

    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert int(re.findall(r"(\d+) passed", passed.stdout)[-1]) >= 14

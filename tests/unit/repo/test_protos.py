"""The protos follow the style, stay compatible, and the committed code is what they generate."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.unit.repo.checkout import GENERATED_SUFFIXES, ROOT, files

PROTO = ROOT / "proto"
BUF = Path(sys.executable).parent / "buf"


def buf(*arguments: str) -> None:
    result = subprocess.run([BUF, *arguments], cwd=PROTO, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_committed_code_is_what_the_protos_generate(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "tools.bootstrap.protos", tmp_path], cwd=ROOT, check=True)
    generated = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    committed = {
        str(path.relative_to("proto")): (ROOT / path).read_text()
        for path in files("proto/*")
        if path.name.endswith(GENERATED_SUFFIXES)
    }
    different = {name for name in generated | committed if generated.get(name) != committed.get(name)}
    assert not different, "run `make protos`"


def test_every_folder_is_its_package() -> None:
    for path in files("*.proto"):
        package = ".".join(path.relative_to("proto").parent.parts)
        assert f"\npackage {package};\n" in (ROOT / path).read_text()


def test_protos_follow_the_style() -> None:
    buf("lint")


@pytest.mark.parametrize("revision", ["origin/main", "main", "HEAD", "HEAD^"])
def test_protos_stay_compatible_with(revision: str, tmp_path: Path) -> None:
    # A revision that does not exist, or has no protos yet, promises nothing.
    archive = subprocess.run(["git", "archive", revision, "proto"], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode != 0:
        return
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as promised:
        promised.extractall(tmp_path, filter="data")
    buf("breaking", "--against", str(tmp_path / "proto"))

"""The protos follow the style, stay compatible, and the committed code is what they generate."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

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


def test_protos_stay_compatible_with_every_base_that_there_is(tmp_path: Path) -> None:
    # A clone need not know all of them, but without any the protos would be compared with themselves.
    known = [revision for revision in ("origin/main", "main", "HEAD^") if commit_of(revision)]
    assert known, "nothing to compare with: fetch main, or one commit more of the history"
    for number, revision in enumerate(["HEAD", *known]):
        promised = tmp_path / str(number)
        archive = subprocess.run(["git", "archive", revision, "proto"], cwd=ROOT, capture_output=True, check=True)
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as content:
            content.extractall(promised, filter="data")
        assert list(promised.rglob("*.proto"))
        buf("breaking", "--against", str(promised / "proto"))


def commit_of(revision: str) -> str:
    """The commit that a revision names; empty if this clone has none."""
    command = ["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

"""When the images of the services are built again, and what the images of single programs hold."""

import subprocess
from pathlib import Path

import pytest

from tools.images import check
from tools.node import archives


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "main.py").write_text("one")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("one")
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    return tmp_path


def test_images_are_built_again_after_a_change_that_nobody_committed(checkout: Path) -> None:
    before = archives.digest_of_inputs(checkout)
    (checkout / "services" / "main.py").write_text("other")
    changed = archives.digest_of_inputs(checkout)
    (checkout / "services" / "more.py").write_text("")
    added = archives.digest_of_inputs(checkout)
    assert len({before, changed, added}) == 3


def test_images_are_kept_when_something_else_changes(checkout: Path) -> None:
    before = archives.digest_of_inputs(checkout)
    (checkout / "docs" / "page.md").write_text("other")
    assert archives.digest_of_inputs(checkout) == before


def test_image_of_a_program_starts_it(tmp_path: Path) -> None:
    programs = {name: tmp_path / f"{name}-1" for name in ("pause", "coredns", "nats-server")}
    for program in programs.values():
        program.write_bytes(b"\x7fELF")
    for archive in archives.of_programs(programs, tmp_path / "images"):
        content = archive.read_bytes()
        [entry] = check.config(content)["config"]["Entrypoint"]
        members = [layer.getmember(entry.lstrip("/")) for layer in check.layers(content)]
        assert [(member.mode, member.size) for member in members] == [(0o755, 4)]

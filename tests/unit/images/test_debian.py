"""The packages below the images: the newest is pinned, only what the lock names is taken, files become a system."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.unit.images.debs import deb, index, package
from tools.images import debian
from tools.images.__main__ import main


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which it is served."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def put(folder: Path, path: str, content: bytes) -> None:
    (folder / path).parent.mkdir(parents=True)
    (folder / path).write_bytes(content)


def test_the_lock_takes_the_newest_version_of_all_indexes() -> None:
    everything = [(name, "1.9-1") for name in debian.PACKAGES]
    updates = [
        ("libssl3", "1.10-1~deb12u2"),
        ("libssl3", "1.10-1~deb12u1"),
        ("zlib1g", "1.9-1~rc1"),
        ("unrelated", "5"),
    ]

    text = debian.lock([("debian", index(everything)), ("debian-security", index(updates))], "20260102T030405Z")

    pinned = {each.name: each for each in debian.read_lock(text)}
    assert set(pinned) == set(debian.PACKAGES)
    assert pinned["libssl3"].path == "debian-security/pool/libssl3_1.10-1~deb12u2.deb"
    assert pinned["zlib1g"].version == "1.9-1"
    assert debian.snapshot_of(text) == "20260102T030405Z"


def test_a_package_that_no_index_lists_is_named() -> None:
    with pytest.raises(debian.PackagesUnavailable, match=r"do not list .*zlib1g"):
        debian.lock([("debian", index([("libc6", "1")]))], "20260102T030405Z")


def test_the_lock_of_the_repository_names_every_package_once() -> None:
    pinned = debian.read_lock(debian.LOCK.read_text())

    assert [each.name for each in pinned] == list(debian.PACKAGES)
    assert all(len(each.sha256) == 64 for each in pinned)


def test_a_package_that_the_mirror_lost_comes_from_the_snapshot(mirror: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = mirror
    content = deb({"etc/example": b"x"})
    put(folder, f"snapshots/debian/20260102T030405Z/pool/main/{'example_1.0_amd64.deb'}", content)
    archive = debian.Archive(tmp_path / "cache", "20260102T030405Z", f"{address}/now", f"{address}/snapshots")

    assert archive.fetch(package(content)) == content


def test_another_content_than_the_lock_names_is_refused(mirror: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = mirror
    wanted = package(deb({"etc/example": b"x"}))
    put(folder, f"now/{wanted.path}", deb({"etc/example": b"y"}))
    archive = debian.Archive(tmp_path / "cache", "20260102T030405Z", f"{address}/now", f"{address}/snapshots")

    with pytest.raises(debian.PackagesUnavailable, match=r"does not match the lock.*make image-locks"):
        archive.fetch(wanted)
    assert not list((tmp_path / "cache").glob("*"))


def test_a_damaged_file_in_the_cache_is_fetched_again(mirror: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = mirror
    content = deb({"etc/example": b"x"})
    wanted = package(content)
    put(folder, f"now/{wanted.path}", content)
    put(tmp_path, f"cache/{wanted.sha256}.deb", b"damaged")

    assert debian.Archive(tmp_path / "cache", "20260102T030405Z", f"{address}/now").fetch(wanted) == content


def test_packages_become_a_file_system_with_merged_directories(tmp_path: Path) -> None:
    one = deb({"lib/x86_64/libone.so": b"one", "usr/share/man/man1/one.1": b"", "usr/share/doc/one/copyright": b"free"})
    other = deb(
        {"usr/lib/x86_64/libother.so": b"other", "usr/share/ca-certificates/mozilla/A.crt": b"A\n"},
        {"bin/one": "../lib/x86_64/libone.so"},
        name="other",
    )
    debian.unpack([(package(one, "one"), one), (package(other, "other"), other)], tmp_path)

    assert (tmp_path / "lib").readlink() == Path("usr/lib")
    assert (tmp_path / "usr/lib/x86_64/libone.so").read_bytes() == b"one"
    assert (tmp_path / "usr/bin/one").is_symlink()
    assert not (tmp_path / "usr/share/man/man1").exists()
    assert (tmp_path / "usr/share/doc/one/copyright").exists()
    assert (tmp_path / "etc/ssl/certs/ca-certificates.crt").read_bytes() == b"A\n"
    assert (tmp_path / "var/lib/dpkg/status.d/other").read_bytes() == b"Package: other\n"
    assert "65532" in (tmp_path / "etc/passwd").read_text()


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "build" in shown
    assert "lock" in shown

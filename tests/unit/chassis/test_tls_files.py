"""Files of TLS that cannot be used are named with their setting; ones that change are taken up when they are whole."""

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from libs.chassis.health import Health
from libs.chassis.tls_files import CHECK, TlsFiles
from tests.support.mounted_secret import MountedSecret, Sides, new_sides

SETTING = "OME_GRPC_TLS_DIR"


def read(directory: MountedSecret) -> dict[str, bytes]:
    return {name: (directory.folder / name).read_bytes() for name in ("tls.crt", "tls.key", "ca.crt")}


def encrypted(key: bytes) -> bytes:
    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    return new_sides(tmp_path)


def files_of(directory: Path, health: Health, with_authority: bool = True) -> TlsFiles:
    return TlsFiles(directory, SETTING, health, with_authority=with_authority)


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt"])
def test_a_missing_file_is_named_with_its_setting(sides: Sides, name: str) -> None:
    health = Health()
    files = files_of(sides.server.folder, health)
    assert not health.ready

    (sides.server.folder / name).unlink()
    files.look()

    assert files.current is None
    assert (
        health.failures[CHECK] == f"{SETTING}: {sides.server.folder / name} cannot be read: No such file or directory"
    )


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff\xfe"], ids=["empty", "text", "bytes"])
def test_a_broken_file_is_named_with_its_setting(sides: Sides, name: str, content: bytes) -> None:
    health = Health()
    sides.server.fill(read(sides.server) | {name: content})
    files_of(sides.server.folder, health).look()

    assert name in health.failures[CHECK]
    assert SETTING in health.failures[CHECK]


def test_a_key_of_another_certificate_is_refused(sides: Sides) -> None:
    health = Health()
    sides.server.fill(read(sides.server) | {"tls.key": read(sides.client)["tls.key"]})
    files_of(sides.server.folder, health).look()
    assert "tls.key" in health.failures[CHECK]


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(sides: Sides) -> None:
    health = Health()
    sides.server.fill(read(sides.server) | {"tls.key": encrypted(read(sides.server)["tls.key"])})
    files_of(sides.server.folder, health).look()
    assert "tls.key" in health.failures[CHECK]


def test_an_authority_is_not_asked_for_where_callers_need_no_certificate(sides: Sides) -> None:
    health = Health()
    (sides.server.folder / "ca.crt").unlink()
    files_of(sides.server.folder, health, with_authority=False).look()
    assert health.ready


async def test_new_files_are_taken_up_and_broken_ones_leave_the_last_in_force(tmp_path: Path, sides: Sides) -> None:
    health = Health()
    files = files_of(sides.server.folder, health)
    async with files.followed(), asyncio.timeout(20):
        first = files.current
        assert first is not None
        assert health.ready
        sides.server.fill(read(sides.server) | {"tls.crt": b"nonsense"})
        while not files.problem:
            await asyncio.sleep(0.02)
        assert files.current is first
        assert health.ready

        sides.renew(tmp_path / "renewed").fill_server()
        while files.current is first:
            await asyncio.sleep(0.02)
        assert not files.problem


async def test_whoever_waits_for_the_files_gets_them_when_they_come(sides: Sides) -> None:
    health, content = Health(), read(sides.server)
    sides.server.fill({"tls.crt": b"", "tls.key": b"", "ca.crt": b""})
    files = files_of(sides.server.folder, health)
    async with files.followed(), asyncio.timeout(20):
        waiting = asyncio.ensure_future(files.usable())
        sides.server.fill(content)
        assert (await waiting).certificate == content["tls.crt"]
        assert health.ready


def test_a_key_is_not_shown_by_its_text_form(sides: Sides) -> None:
    files = files_of(sides.server.folder, Health())
    files.look()
    assert "PRIVATE" not in repr(files.current)

"""When the page's port opens, by its certificate."""

import asyncio
import ssl
from pathlib import Path

import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs

from libs.chassis.health import Health
from libs.chassis.tls_files import TlsFiles
from services.status.page import server
from services.status.page.server import serve_page
from tools.localcluster.addresses import free_port
from tools.localcluster.certificates import Authority


async def test_a_certificate_that_is_replaced_while_the_port_is_about_to_open_only_delays_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_RETRY_SECONDS", 0.01)
    authority = Authority(tmp_path)
    pair, folder = authority.issue_server("page", (), ("127.0.0.1",)), tmp_path / "files"
    folder.mkdir()
    (folder / "tls.crt").write_bytes(pair.certificate.read_bytes())
    (folder / "tls.key").write_bytes(pair.key.read_bytes())
    files, port = TlsFiles(folder, "FILES", Health(), with_authority=False), free_port()
    files.look()
    assert files.current
    (folder / "tls.key").write_bytes(b"half of a key")

    async with (
        asyncio.timeout(30),
        serve_page(Starlette(), "127.0.0.1", port, files, folder, Health()),
    ):
        with capture_logs() as logs:
            while not [entry for entry in logs if entry["event"] == "certificate_not_loaded"]:
                await asyncio.sleep(0.01)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        (folder / "tls.key").write_bytes(pair.key.read_bytes())
        trusting = ssl.create_default_context(cafile=str(authority.certificate))
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
        writer.close()

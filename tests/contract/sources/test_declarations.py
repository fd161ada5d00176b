"""What is read of a listed source for the parser: the same bytes as are read of the files on a disk, within bounds."""

import http.server
import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, new_manifest
from libs.artifact.model_directory import ModelFile, read_model_directory
from services.fetcher.sources import declarations
from services.fetcher.sources.declarations import read_declarations
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.egress import Rule
from tests.support.transfers import UrlOrigin

CONFIG = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}).encode()


def weights(header_bytes: int = 100, size: int = 1 << 20) -> bytes:
    header = json.dumps({"w": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode().ljust(header_bytes)
    return (struct.pack("<Q", len(header)) + header).ljust(size, b"\xff")


class Server:
    """Serves files, with ranges unless it is told to know none, and notes what it has sent."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.knows_ranges = True
        self.sent_bytes = 0
        self.asked: list[str] = []


@contextmanager
def serving(server: Server) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = unquote(urlsplit(self.path).path).lstrip("/")
            server.asked.append(name)
            body, status = server.files[name], HTTPStatus.OK
            if server.knows_ranges:
                start, _, end = self.headers["Range"].removeprefix("bytes=").partition("-")
                body, status = body[int(start) : int(end) + 1], HTTPStatus.PARTIAL_CONTENT
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            server.sent_bytes += len(body)
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def manifest_of(files: dict[str, bytes]) -> Manifest:
    return new_manifest(
        "c0ffee", [ManifestFile(path, len(data), ChecksumAlgorithm.NONE, "") for path, data in files.items()]
    )


def read(server: Server, seconds: float = 20.0, manifest: Manifest | None = None) -> list[ModelFile]:
    with serving(server) as url:
        parts = urlsplit(url)
        egress = Rule(own=((parts.hostname or "", parts.port or 0),))
        origin = UrlOrigin("hf://o/m", url)
        return read_declarations(manifest or manifest_of(server.files), origin, "", seconds, StopFlag(), egress)


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_the_parser_gets_the_same_bytes_as_of_a_directory(tmp_path: Path, knows_ranges: bool) -> None:
    server = Server()
    server.knows_ranges = knows_ranges
    server.files = {
        "config.json": CONFIG,
        "README.md": b"---\nlicense: mit\n---\n",
        "model-00001-of-00002.safetensors": weights(),
        "model-00002-of-00002.safetensors": weights(header_bytes=100_000),
        "model.safetensors.index.json": b'{"weight_map": {}}',
        "tokenizer.json": b"{" + b" " * 2_000_000 + b"}",
        "vision/config.json": CONFIG,
        "notes.txt": b"x" * 100,
    }
    for path, data in server.files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    found = read(server)
    assert found == list(read_model_directory(str(tmp_path)))
    assert "notes.txt" not in server.asked
    if knows_ranges:
        assert server.sent_bytes < 300_000, "no weights are fetched"


def test_of_too_many_headers_none_is_told_and_the_configuration_is() -> None:
    server = Server()
    server.files = {f"model-{number:05}-of-00065.safetensors": weights(size=200) for number in range(1, 66)}
    server.files |= {"config.json": CONFIG, "model.safetensors.index.json": b"{}"}
    assert [(file.path, file.data) for file in read(server)] == [("config.json", CONFIG)]
    assert not any(name.endswith(".safetensors") for name in server.asked)


def test_headers_that_are_too_large_together_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declarations, "MOST_BYTES", 200_000)
    server = Server()
    server.files = {f"model-{number}.safetensors": weights(header_bytes=100_000) for number in range(4)}
    server.files["config.json"] = CONFIG
    assert [file.path for file in read(server)] == ["config.json"]
    assert server.sent_bytes < 300_000


def test_a_source_that_does_not_have_what_it_listed_tells_nothing() -> None:
    server = Server()
    server.files = {"config.json": CONFIG}
    assert read(server, manifest=manifest_of({"config.json": CONFIG + b" " * 100})) == []


def test_reading_ends_when_whoever_asks_can_wait_no_longer() -> None:
    held = threading.Event()

    class Slow(dict[str, bytes]):
        def __getitem__(self, name: str) -> bytes:
            held.wait(30)
            return super().__getitem__(name)

    server = Server()
    server.files = Slow({"config.json": CONFIG})
    threading.Timer(10.0, held.set).start()
    started = time.monotonic()
    assert read(server, seconds=0.5) == []
    assert time.monotonic() - started < 10
    held.set()


def test_nothing_is_read_of_a_host_that_the_model_may_not_reach() -> None:
    server = Server()
    server.files = {"config.json": CONFIG}
    with serving(server) as url:
        origin = UrlOrigin("hf://o/m", url)
        assert read_declarations(manifest_of(server.files), origin, "", 5.0, StopFlag(), Rule()) == []
    assert server.asked == []

"""Images of others get the digest behind their tag, from a registry that asks for a token as Docker's does."""

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from tools.images import build, dockerfile, registry

INDEX = b'{"schemaVersion": 2}'
DIGEST = f"sha256:{hashlib.sha256(INDEX).hexdigest()}"
OLD = f"sha256:{'1' * 64}"


class Registry(BaseHTTPRequestHandler):
    """Knows library/nats:1 and a/b:2, for whoever shows the token of the repository."""

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        if target.path == "/token":
            [scope] = parse_qs(target.query)["scope"]
            self._say(200, json.dumps({"token": f"for {scope}"}).encode())
            return
        repository = target.path.removeprefix("/v2/").partition("/manifests/")[0]
        scope = f"repository:{repository}:pull"
        if self.headers["Authorization"] != f"Bearer for {scope}":
            realm = f'Bearer realm="http://{self.headers["Host"]}/token",service="registry",scope="{scope}"'
            self._say(401, b"", realm)
        elif target.path in ("/v2/library/nats/manifests/1", "/v2/a/b/manifests/2"):
            self._say(200 if "image.index" in self.headers["Accept"] else 406, INDEX)
        else:
            self._say(404, b"")

    def _say(self, status: int, body: bytes, challenge: str = "") -> None:
        self.send_response(status)
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        # It may be wrong, and nobody looks at it.
        self.send_header("Docker-Content-Digest", OLD)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("repository", "tag"), [("nats", "1"), ("a/b", "2")])
def test_a_tag_stands_for_the_content_that_the_registry_sends(repository: str, tag: str, address: str) -> None:
    assert registry.digest_of(repository, tag, address) == DIGEST


@pytest.mark.parametrize("place", ["", "http://127.0.0.1:9"])
def test_a_registry_that_does_not_know_or_answer_is_told_with_the_image(place: str, address: str) -> None:
    with pytest.raises(registry.DigestUnknown, match=r"^nats:3 cannot be pinned by its digest: http://127"):
        registry.digest_of("nats", "3", place or address)


@pytest.mark.parametrize("old", ["", f"@{OLD}"])
def test_each_image_of_others_gets_its_digest_once(old: str) -> None:
    text = f"FROM python:3.11-slim{old} AS one\nRUN x\nFROM python:3.11-slim{old}\nCOPY --from=one /app /app\n"
    values = f"image:\n  repository: nats\n  tag: 2.15.2{old}\nsecrets:\n  image:\n    repository: ome/controller\n"

    def answer(repository: str, tag: str) -> str:
        return {("python", "3.11-slim"): DIGEST, ("nats", "2.15.2"): DIGEST}[repository, tag]

    assert registry.pinned(text, answer) == text.replace(old, "").replace("3.11-slim", f"3.11-slim@{DIGEST}")
    assert registry.pinned(values, answer) == values.replace(old, "").replace("2.15.2", f"2.15.2@{DIGEST}")


def test_every_image_of_others_in_the_repository_is_found() -> None:
    asked = []

    def answer(*image: str) -> str:
        asked.append(image[0])
        return DIGEST

    registry.pinned((build.ROOT / "deploy" / "helm" / "nats" / "values.yaml").read_text(), answer)
    for service in build.SERVICES:
        text = registry.pinned((build.IMAGES / service / "Dockerfile").read_text(), answer)
        assert len(dockerfile.read(text, "/usr/bin").stages) == 3
    assert asked == ["nats", *["python"] * 12]

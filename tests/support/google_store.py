"""Google's Cloud Storage on a loopback port: the part of its XML API that a reader needs, for the real SDK.

No server that can be had speaks this API and checks what is signed. This one checks the tokens that a service account
signs for itself and the signatures of addresses, as the service does.
"""

import base64
import binascii
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

import google_crc32c
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.http_handler import KeptAliveHandler

_ACCOUNT = "fetcher@acme.iam.gserviceaccount.com"
_KEY_ID = "0123456789abcdef"
_PAGE = 1000
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_TIME = "%Y%m%dT%H%M%SZ"


class _RefusalError(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class GoogleStore:
    """A private bucket "models" of one service account, and a bucket "public" that everybody may read and list."""

    scheme = "gs"
    parameters: Mapping[str, str] = {}

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._objects: dict[str, dict[str, tuple[bytes, str]]] = {"models": {}, "public": {}}
        self._lock = threading.Lock()
        self._refusals: tuple[str, int, list[str]] | None = None
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "GoogleStore":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def secret(self) -> dict[str, bytes]:
        """The data of a Secret with the key of the service account."""
        return {"key.json": _service_account(self._key)}

    @property
    def wrong_secret(self) -> dict[str, bytes]:
        """The same with a key that the account does not have."""
        return {"key.json": _service_account(rsa.generate_private_key(public_exponent=65537, key_size=2048))}

    def put(self, bucket: str, prefix: str, contents: Mapping[str, bytes]) -> None:
        """Put objects. The ETag is the MD5 of the content, so that the same content has the same one again."""
        with self._lock:
            for path, content in contents.items():
                tag = hashlib.md5(content, usedforsecurity=False).hexdigest()
                self._objects[bucket][f"{prefix}/{path}"] = content, f'"{tag}"'

    def falsify(self, bucket: str, key: str, content: bytes) -> None:
        """Give an object another content and leave its ETag."""
        with self._lock:
            self._objects[bucket][key] = content, self._objects[bucket][key][1]

    @contextmanager
    def refusing(self, ending: str, status: int) -> Iterator[list[str]]:
        """Answer a status to requests for objects that are named so; yields the paths that were refused."""
        refused: list[str] = []
        self._refusals = (ending, status, refused)
        try:
            yield refused
        finally:
            self._refusals = None

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        with self._lock:
            del self._objects[bucket][key]

    def _answer(self, target: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        raw_path, query = urlsplit(target).path, dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
        bucket, _, key = unquote(raw_path).removeprefix("/").partition("/")
        if bucket != "public":
            self._authenticate(raw_path, query, headers)
        refusals = self._refusals
        if refusals and key.endswith(refusals[0]):
            refusals[2].append(key)
            raise _RefusalError(refusals[1], "AsTheTestWantsIt")
        with self._lock:
            if bucket not in self._objects:
                raise _RefusalError(404, "NoSuchBucket")
            objects = dict(self._objects[bucket])
        if not key:
            return 200, {"Content-Type": "application/xml"}, _listing(objects, query).encode()
        if key not in objects:
            raise _RefusalError(404, "NoSuchKey")
        content, tag = objects[key]
        if headers.get("if-match", tag) != tag:
            raise _RefusalError(412, "PreconditionFailed")
        crc: int = google_crc32c.value(content)
        answer = {"ETag": tag, "x-goog-hash": f"crc32c={base64.b64encode(crc.to_bytes(4)).decode()}"}
        wanted = _RANGE.fullmatch(headers.get("range", ""))
        if not wanted:
            return 200, answer, content
        start, size = int(wanted[1]), len(content)
        end = min(int(wanted[2]) + 1 if wanted[2] else size, size)
        if start >= size:
            raise _RefusalError(416, "InvalidRange")
        return 206, {**answer, "Content-Range": f"bytes {start}-{end - 1}/{size}"}, content[start:end]

    def _authenticate(self, raw_path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> None:
        kind, _, token = headers.get("authorization", "").partition(" ")
        try:
            if "X-Goog-Signature" in query:
                self._check_address(raw_path, query, headers)
            elif kind == "Bearer":
                self._check_token(token)
            else:
                raise _RefusalError(403, "AccessDenied")
        except InvalidSignature:
            raise _RefusalError(403 if query.get("X-Goog-Signature") else 401, "SignatureDoesNotMatch") from None
        except (ValueError, KeyError):
            raise _RefusalError(401, "AuthenticationRequired") from None

    def _check_address(self, raw_path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> None:
        """https://cloud.google.com/storage/docs/authentication/canonical-requests"""
        made = datetime.strptime(query["X-Goog-Date"], _TIME).replace(tzinfo=UTC)
        if query["X-Goog-Algorithm"] != "GOOG4-RSA-SHA256":
            raise _RefusalError(400, "InvalidArgument")
        if datetime.now(UTC) > made + timedelta(seconds=int(query["X-Goog-Expires"])):
            raise _RefusalError(400, "ExpiredToken")
        scope = f"{made:%Y%m%d}/auto/storage/goog4_request"
        account, _, signed_scope = query["X-Goog-Credential"].partition("/")
        if account != _ACCOUNT or not re.fullmatch(rf"{made:%Y%m%d}/[\w-]+/storage/goog4_request", signed_scope):
            raise _RefusalError(403, "SignatureDoesNotMatch")
        scope = signed_scope
        names = query["X-Goog-SignedHeaders"].split(";")
        if "host" not in names:
            raise _RefusalError(400, "InvalidArgument")
        sorted_query = sorted((name, value) for name, value in query.items() if name != "X-Goog-Signature")
        canonical = [
            "GET",
            raw_path,
            "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted_query),
            *(f"{name}:{headers[name]}" for name in names),
            "",
            ";".join(names),
            "UNSIGNED-PAYLOAD",
        ]
        digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
        text = "\n".join(["GOOG4-RSA-SHA256", query["X-Goog-Date"], scope, digest])
        self._verify(binascii.unhexlify(query["X-Goog-Signature"]), text)

    def _check_token(self, token: str) -> None:
        """A token that a service account has signed for itself: https://google.aip.dev/auth/4111"""
        signed, _, signature = token.rpartition(".")
        head, claims = (json.loads(_decoded(part)) for part in signed.split("."))
        self._verify(_decoded(signature), signed)
        now = datetime.now(UTC).timestamp()
        if (head["alg"], head["kid"], claims["iss"]) != ("RS256", _KEY_ID, _ACCOUNT) or claims["exp"] < now:
            raise _RefusalError(401, "AuthenticationRequired")

    def _verify(self, signature: bytes, text: str) -> None:
        self._key.public_key().verify(signature, text.encode(), padding.PKCS1v15(), hashes.SHA256())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        store = self

        class Requests(KeptAliveHandler):
            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                store.requests.append(self.path)
                try:
                    status, answer, body = store._answer(self.path, headers)
                except _RefusalError as refusal:
                    status, answer = refusal.status, {"Content-Type": "application/xml"}
                    body = f"<?xml version='1.0'?><Error><Code>{refusal.code}</Code></Error>".encode()
                self.send_response(status)
                for name, value in {**answer, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                return

        return Requests


def _listing(objects: Mapping[str, tuple[bytes, str]], query: Mapping[str, str]) -> str:
    """One page: https://cloud.google.com/storage/docs/xml-api/get-bucket-list"""
    if query.get("list-type") != "2":
        raise _RefusalError(400, "InvalidArgument")
    after = query.get("continuation-token", "")
    names = sorted(name for name in objects if name.startswith(query.get("prefix", "")) and name > after)
    page = names[: min(int(query.get("max-keys", _PAGE)), _PAGE)]
    more = len(names) > len(page)
    following = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
    contents = "".join(
        f"<Contents><Key>{escape(name)}</Key><Size>{len(objects[name][0])}</Size><ETag>{escape(objects[name][1])}</ETag>"
        "<LastModified>2023-01-02T03:04:05.000Z</LastModified></Contents>"
        for name in page
    )
    return (
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{following}{contents}</ListBucketResult>"
    )


def _service_account(key: rsa.RSAPrivateKey) -> bytes:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    fields = {"type": "service_account", "client_email": _ACCOUNT, "private_key_id": _KEY_ID}
    return json.dumps({**fields, "private_key": private.decode()}).encode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

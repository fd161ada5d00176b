"""Oracle's Object Storage on a loopback port: the part of its REST API that a reader needs, for the real SDK.

Checks the signature of every request as the service does. Objects can be replaced, archived and deleted, also between
two requests, and requests can be made to fail; each fault counts how often it fired.
"""

import base64
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.http_handler import KeptAliveHandler

NAMESPACE = "acme"
BUCKET = "models"
TENANCY = "ocid1.tenancy.oc1..aaaaaaaatenancy"
_USER = "ocid1.user.oc1..aaaaaaaauser"
_FINGERPRINT = ":".join(["a1"] * 16)
_SIGNED = ("date", "(request-target)", "host")
# https://docs.oracle.com/en-us/iaas/Content/API/Concepts/signingrequests.htm: the clocks may differ by this much.
_SKEW_SECONDS = 300
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_OBJECT_FIELDS = ("size", "etag", "md5", "archivalState")


@dataclass(frozen=True)
class StoredObject:
    """An object's content, its ETag, and the MD5 that the service tells: of the content, or of its parts.

    checksums are the headers of the additional checksums that the uploader asked for.
    """

    content: bytes
    etag: str
    md5: str
    multipart: bool
    archival_state: str | None
    checksums: Mapping[str, str]
    listed_md5: bool


@dataclass(frozen=True)
class Received:
    """A request that was received; headers have lower-case names. status is that of the answer."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    status: int


@dataclass
class Fault:
    """What goes wrong with requests for paths that end with path: the first skip go well, then times go wrong.

    With a status the service answers that; with truncate it closes after so many bytes of the body; with body it
    answers 200 with these bytes; act is called before the request is answered as usual, to change something under it.
    """

    path: str = ""
    status: int = 0
    code: str = "InternalServerError"
    retry_after: str = ""
    truncate: int | None = None
    body: bytes | None = None
    act: Callable[[], object] | None = None
    times: int = 1
    skip: int = 0
    fired: int = field(default=0, init=False)


class _RefusalError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def _of_parts(parts: Sequence[bytes], digest: Callable[[bytes], bytes]) -> str:
    """The digest of a content, or that of its parts' digests with their number behind it."""
    if len(parts) == 1:
        return base64.b64encode(digest(parts[0])).decode()
    return f"{base64.b64encode(digest(b''.join(map(digest, parts)))).decode()}-{len(parts)}"


def _additional(algorithm: str, parts: Sequence[bytes]) -> dict[str, str]:
    """The header of an additional checksum: of parts it is combined for a CRC, else a checksum of checksums.

    Names as the SDK's own verifier of downloads looks for them.
    """
    kind = "content" if len(parts) == 1 else "multipart"
    match algorithm:
        case "SHA256" | "SHA384":
            return {
                f"opc-{kind}-{algorithm.lower()}": _of_parts(parts, lambda part: hashlib.new(algorithm, part).digest())
            }
        case "CRC32C":
            value: int = google_crc32c.value(b"".join(parts))
            return {"opc-content-crc32c": base64.b64encode(value.to_bytes(4)).decode()}
        case _:
            return {}


class OracleStore:
    """One namespace with one bucket and one user, until closed. Use as a context manager."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._keys = {f"{TENANCY}/{_USER}/{_FINGERPRINT}": self._key.public_key()}
        self._objects: dict[str, StoredObject] = {}
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._tags = itertools.count(1)
        self.requests: list[Received] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "OracleStore":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def secret(self, passphrase: str = "") -> dict[str, bytes]:
        """The data of a Secret for the user."""
        encryption = (
            serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
        )
        pem = self._key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        texts = {"user": _USER, "tenancy": TENANCY, "fingerprint": _FINGERPRINT, "region": "us-phoenix-1"}
        secret = {name: text.encode() for name, text in texts.items()} | {"private_key": pem}
        return secret | ({"passphrase": passphrase.encode()} if passphrase else {})

    def resource_principal(self) -> dict[str, str]:
        """The environment in which Oracle runs programs of a resource; its token is good for an hour."""
        claims = json.dumps({"exp": int(datetime.now(UTC).timestamp()) + 3600}).encode()
        parts = (b'{"alg":"none"}', claims, b"")
        token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
        self.accept(f"ST${token}", self._key.public_key())
        return {
            "OCI_RESOURCE_PRINCIPAL_VERSION": "2.2",
            "OCI_RESOURCE_PRINCIPAL_RPST": token,
            "OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM": self.secret()["private_key"].decode(),
            "OCI_RESOURCE_PRINCIPAL_REGION": "us-phoenix-1",
        }

    def accept(self, key_id: str, key: rsa.RSAPublicKey) -> None:
        """Let requests in that are signed with a key in this name."""
        with self._lock:
            self._keys[key_id] = key

    def revoke(self) -> None:
        """Let nobody in any more who was let in until now."""
        with self._lock:
            self._keys.clear()

    def put(
        self,
        name: str,
        content: bytes,
        multipart: bool = False,
        archival_state: str | None = None,
        algorithm: str = "",
        listed_md5: bool = True,
    ) -> StoredObject:
        """Create or replace an object; its ETag is a new one. algorithm is the uploader's opc-checksum-algorithm."""
        parts = [content[: len(content) // 2], content[len(content) // 2 :]] if multipart else [content]
        stored = StoredObject(
            content,
            f"etag-{next(self._tags)}",
            _of_parts(parts, lambda part: hashlib.md5(part, usedforsecurity=False).digest()),
            multipart,
            archival_state,
            _additional(algorithm, parts),
            listed_md5,
        )
        with self._lock:
            self._objects[name] = stored
        return stored

    def delete(self, name: str) -> None:
        """Delete an object."""
        with self._lock:
            del self._objects[name]

    def inject(self, fault: Fault) -> Fault:
        """Let something go wrong; the caller asserts that it fired."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Take all faults away."""
        with self._lock:
            self._faults.clear()

    def requested(self, name: str) -> list[Received]:
        """The requests for an object."""
        return [request for request in list(self.requests) if request.path == f"/n/{NAMESPACE}/b/{BUCKET}/o/{name}"]

    def listings(self) -> list[Received]:
        """The requests for a page of a listing."""
        return [request for request in list(self.requests) if request.path.endswith("/o")]

    def _fault(self, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if not path.endswith(fault.path) or fault.fired >= fault.times:
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.fired += 1
                return fault
        return None

    def _authenticate(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        def refuse(why: str) -> _RefusalError:
            return _RefusalError(401, "NotAuthenticated", why)

        scheme, _, text = headers.get("authorization", "").partition(" ")
        parameters = dict(_PARAMETER.findall(text))
        if scheme != "Signature" or parameters.get("algorithm") != "rsa-sha256" or parameters.get("version") != "1":
            raise refuse("The required information to complete authentication was not provided or was incorrect.")
        with self._lock:
            key = self._keys.get(parameters.get("keyId", ""))
        if key is None:
            raise refuse("Failed to verify the HTTP(S) Signature: unknown key")
        signed = parameters.get("headers", "").split()
        if not set(_SIGNED) <= set(signed):
            raise refuse("Failed to verify the HTTP(S) Signature: required headers are not signed")
        if abs((datetime.now(UTC) - parsedate_to_datetime(headers["date"])).total_seconds()) > _SKEW_SECONDS:
            raise refuse("Failed to verify the HTTP(S) Signature: clock skew")
        if headers["host"] != urlsplit(self.endpoint).netloc:
            raise refuse("Failed to verify the HTTP(S) Signature: host")
        values = {**headers, "(request-target)": f"{method.lower()} {target}"}
        text = "\n".join(f"{name}: {values[name]}" for name in signed)
        try:
            key.verify(base64.b64decode(parameters["signature"]), text.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise refuse("Failed to verify the HTTP(S) Signature") from None

    def _object(self, path: str, headers: Mapping[str, str]) -> StoredObject:
        _, _, name = path.removeprefix("/").partition(f"n/{NAMESPACE}/b/{BUCKET}/o/")
        with self._lock:
            stored = self._objects.get(name)
        if stored is None:
            self._find_bucket(path)
            raise _RefusalError(404, "ObjectNotFound", f"The object '{name}' was not found in the bucket '{BUCKET}'")
        if headers.get("if-match", stored.etag) != stored.etag:
            raise _RefusalError(412, "IfMatchFailed", "The If-Match header does not match the object's ETag")
        if stored.archival_state not in (None, "Restored"):
            raise _RefusalError(409, "NotRestored", "The object is archived")
        return stored

    def _find_bucket(self, path: str) -> None:
        if not path.startswith(f"/n/{NAMESPACE}/b/{BUCKET}/o"):
            raise _RefusalError(
                404, "BucketNotFound", "Either the bucket does not exist in the namespace or you are not authorized"
            )

    def _list(self, path: str, query: Mapping[str, str]) -> dict[str, object]:
        self._find_bucket(path)
        limit = min(int(query.get("limit", 1000)), 1000)
        with self._lock:
            names = sorted(
                name
                for name in self._objects
                if name.startswith(query.get("prefix", "")) and name >= query.get("start", "")
            )
            page = [(name, self._objects[name]) for name in names[:limit]]
        asked = query.get("fields", "name").split(",")
        entries = []
        for name, stored in page:
            values = {
                "size": len(stored.content),
                "etag": stored.etag,
                "md5": stored.md5 if stored.listed_md5 else None,
                "archivalState": stored.archival_state,
            }
            entries.append({"name": name} | {key: values[key] for key in _OBJECT_FIELDS if key in asked})
        following = {"nextStartWith": names[limit]} if len(names) > limit else {}
        return {"objects": entries, "prefixes": [], **following}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        store = self

        class Requests(KeptAliveHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                target = urlsplit(self.path)
                path = unquote(target.path)
                query = {name: values[0] for name, values in parse_qs(target.query).items()}
                headers = {name.lower(): value for name, value in self.headers.items()}
                fault = store._fault(path)
                try:
                    store._authenticate(self.command, self.path, headers)
                    status, answer, body = self._answer(fault, path, query, headers)
                except _RefusalError as refusal:
                    status, answer = refusal.status, {"Content-Type": "application/json"}
                    body = json.dumps({"code": refusal.code, "message": refusal.message}).encode()
                    if fault and fault.retry_after:
                        answer["Retry-After"] = fault.retry_after
                store.requests.append(Received(self.command, path, query, headers, status))
                truncate = fault.truncate if fault else None
                self._send(status, answer, body, truncate)

            def _send(self, status: int, answer: Mapping[str, str], body: bytes, truncate: int | None) -> None:
                self.send_response(status)
                for name, value in {**answer, "Content-Length": str(len(body)), "opc-request-id": "r-1"}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[:truncate])
                self.wfile.flush()
                self.close_connection = self.close_connection or truncate is not None

            def _answer(
                self, fault: Fault | None, path: str, query: Mapping[str, str], headers: Mapping[str, str]
            ) -> tuple[int, dict[str, str], bytes]:
                if fault and fault.act:
                    fault.act()
                if fault and fault.status:
                    raise _RefusalError(fault.status, fault.code, "as the test wants it")
                if fault and fault.body is not None:
                    return 200, {"Content-Type": "application/json"}, fault.body
                if path.endswith("/o"):
                    return 200, {"Content-Type": "application/json"}, json.dumps(store._list(path, query)).encode()
                stored = store._object(path, headers)
                answer = {"ETag": stored.etag, "Accept-Ranges": "bytes"}
                answer["opc-multipart-md5" if stored.multipart else "Content-MD5"] = stored.md5
                answer |= stored.checksums
                wanted = _RANGE.fullmatch(headers.get("range", ""))
                if not wanted:
                    return 200, answer, stored.content
                start, size = int(wanted[1]), len(stored.content)
                end = min(int(wanted[2]) + 1 if wanted[2] else size, size)
                if start >= size:
                    raise _RefusalError(416, "InvalidRange", "The range is not satisfiable")
                answer["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
                return 206, answer, stored.content[start:end]

            def log_message(self, format: str, *arguments: object) -> None:
                return

        return Requests

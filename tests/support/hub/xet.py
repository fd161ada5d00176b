"""The storage behind Xet-backed files: what it answers to hf_xet when that downloads. Must not inject faults.

Source of paths and formats: https://huggingface.co/docs/xet (api, auth, download-protocol, xorb). Chunks have a fixed
length and are not compressed, and the names of files and xorbs are derived from SHA-256 and not by BLAKE3 from the
chunks: a client that downloads takes both as they come, and hf_xet 1.8 checks neither.
"""

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.hub.repositories import Library, RepositoryFile
from tests.support.hub.wire import Request, Response

_CHUNK_BYTES = 64 << 10
_CHUNKS_PER_XORB = 64
XORB_BYTES = _CHUNK_BYTES * _CHUNKS_PER_XORB
_HEADER_BYTES = 8


def xet_hash(sha256: str) -> str:
    """The name in Xet storage of a file with this content."""
    return hashlib.sha256(f"xet {sha256}".encode()).hexdigest()


def xorb_name(name: str, number: int) -> str:
    """The name of the xorb that holds a part of XORB_BYTES of a file in Xet storage."""
    return hashlib.sha256(f"xorb {name} {number}".encode()).hexdigest()


class XetStorage:
    """The port that serves reconstructions to whoever has a token, and ranges of xorbs to whoever has a signed link."""

    def __init__(
        self, library: Library, url: Callable[[], str], token_seconds: Callable[[], float], swapped: Callable[[], bool]
    ) -> None:
        self._library = library
        self._url = url
        self._token_seconds = token_seconds
        self._swapped = swapped
        self._lock = threading.Lock()
        self._tokens: dict[str, float] = {}
        self._key = secrets.token_hex(16)

    def token(self) -> Mapping[str, Any]:
        """A new access token, as the hub hands it out."""
        token, expires = f"xet_{secrets.token_hex(16)}", time.time() + self._token_seconds()
        with self._lock:
            self._tokens[token] = expires
        return {"accessToken": token, "exp": int(expires), "casUrl": self._url()}

    def answer(self, request: Request) -> Response:
        """Answer one request."""
        match request.parts:
            case ("v1", "reconstructions", name):
                return self._reconstruction(request, name)
            case ("xorbs", name):
                return self._xorb(request, name)
            case _:
                # Also the second version of the API, after which hf_xet asks for the first.
                return Response(404)

    def _reconstruction(self, request: Request, name: str) -> Response:
        _, _, token = request.headers.get("authorization", "").partition(" ")
        with self._lock:
            expires = self._tokens.get(token, 0.0)
        if expires < time.time():
            return Response(401)
        file = self._find(name)
        if file is None:
            return Response(404)
        first, _, last = request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
        size = file.content.size_bytes
        start, end = int(first), min(int(last) + 1 if last else size, size)
        if start >= size:
            return Response(416)
        terms, fetches = [], {}
        for number in range(start // XORB_BYTES, -(-end // XORB_BYTES)):
            origin = number * XORB_BYTES
            low, high = max(start - origin, 0) // _CHUNK_BYTES, -(-(min(end - origin, XORB_BYTES)) // _CHUNK_BYTES)
            xorb = xorb_name(name, number)
            chunks = {"start": low, "end": high}
            length = min(high * _CHUNK_BYTES, size - origin) - low * _CHUNK_BYTES
            packed = {"start": _packed(low), "end": _packed(low) + length + (high - low) * _HEADER_BYTES - 1}
            terms.append({"hash": xorb, "range": chunks, "unpacked_length": length})
            url = f"{self._url()}/xorbs/{xorb}?file={name}&number={number}&signature={self._signature(name, number)}"
            fetches[xorb] = [{"range": chunks, "url": url, "url_range": packed}]
        if self._swapped() and len(terms) > 1:
            terms[0], terms[1] = terms[1], terms[0]
        answer = {"offset_into_first_range": start % _CHUNK_BYTES, "terms": terms, "fetch_info": fetches}
        return Response(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _xorb(self, request: Request, xorb: str) -> Response:
        name, number = request.query.get("file", ""), int(request.query.get("number", "0"))
        file = self._find(name)
        if request.query.get("signature") != self._signature(name, number) or file is None:
            return Response(403)
        packed = _pack(file, number)
        first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
        part = packed[int(first) : int(last) + 1]
        headers = {"Content-Range": f"bytes {first}-{last}/{len(packed)}", "Content-Type": "application/octet-stream"}
        return Response(206, headers, part)

    def _find(self, name: str) -> RepositoryFile | None:
        with self._library.lock:
            repositories = self._library.repositories.values()
            commits = [commit for repository in repositories for commit in repository.commits.values()]
        files = (file for commit in commits for file in commit.files if file.lfs)
        return next((file for file in files if xet_hash(file.content.sha256) == name), None)

    def _signature(self, name: str, number: int) -> str:
        return hashlib.sha256(f"{self._key} {name} {number}".encode()).hexdigest()


def _packed(chunks: int) -> int:
    """Bytes that so many full chunks take in a xorb."""
    return chunks * (_CHUNK_BYTES + _HEADER_BYTES)


def _pack(file: RepositoryFile, number: int) -> bytes:
    """A part of a file as a xorb: chunks, each behind version, stored length, compression (none) and length."""
    packed = bytearray()
    with open(file.content.location, "rb") as content:
        content.seek(number * XORB_BYTES)
        for _ in range(_CHUNKS_PER_XORB):
            chunk = content.read(_CHUNK_BYTES)
            if chunk:
                length = len(chunk).to_bytes(3, "little")
                packed += b"\0" + length + b"\0" + length + chunk
    return bytes(packed)

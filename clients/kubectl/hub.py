"""Sketches a repository of Hugging Face: all files at their sizes, of which only what tells about the model is fetched.

A few megabytes stand for a model of any size. Speaks HTTP as the Hub's API documents it, with HF_ENDPOINT and HF_TOKEN
as Hugging Face's own tools have them: https://huggingface.co/docs/hub/api. Must not interpret what it fetches.
"""

import http.client
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, Request, build_opener

from clients.kubectl.parsing import Unreadable
from libs.artifact.errors import InvalidValue
from libs.artifact.metadata_files import LENGTH_BYTES, MAX_FILES, sent_bytes, wanted_bytes
from libs.artifact.uri import HuggingFaceUri, parse_uri

_ENDPOINT = "https://huggingface.co"
_TIMEOUT_SECONDS = 30.0
# A listing of 50,000 files is 20 MB.
_MOST_LISTED_BYTES = 64 << 20
# Of all its pages, which have as many files as the hub likes, and of the files that are fetched.
_MOST_PAGES, _MOST_FETCHED_BYTES = 1000, 1 << 30
# No disk has room for more, and no model of the next years needs it.
_MOST_FILE_BYTES = 1 << 50
_NEXT = re.compile(r'<([^<>]+)>; ?rel="next"')


def sketch(uri: str, folder: Path) -> None:
    """Write a repository's files into an empty folder: with their sizes, and holes instead of weights.

    Raises Unreadable.
    """
    try:
        named = parse_uri(uri)
    except InvalidValue as error:
        raise Unreadable(error.message) from error
    if not isinstance(named, HuggingFaceUri):
        raise Unreadable(f"{uri} names no repository of Hugging Face")
    repository, revision = quote(named.repository), quote(named.revision or "main", safe="")
    endpoint = os.environ.get("HF_ENDPOINT") or _ENDPOINT
    if not endpoint.startswith(("https://", "http://")):
        raise Unreadable(f"HF_ENDPOINT is {endpoint!r}, which is no address of HTTP")
    hub = _Hub(endpoint.rstrip("/"), os.environ.get("HF_TOKEN", ""))
    for path, size in hub.files(repository, revision):
        beginning = hub.head(f"{repository}/resolve/{revision}/{quote(path)}", path, size)
        try:
            _write(folder / path, folder, beginning, size)
        except (OSError, ValueError) as error:
            raise Unreadable(f"the repository has a file that cannot be written: {path!r}") from error


def _write(target: Path, folder: Path, beginning: bytes, size: int) -> None:
    if not target.resolve().is_relative_to(folder.resolve()):
        raise ValueError("outside of the folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        file.write(beginning)
        # A hole takes no room on the disk, and the parser is told sizes.
        file.truncate(size)


class TokenStaysHome(HTTPRedirectHandler):
    """Follows redirects to the hosts that have the content, without the token: they take no part in the login.

    What was asked over TLS is answered over TLS.
    """

    def redirect_request(self, *arguments: Any) -> Request | None:
        request, asked = super().redirect_request(*arguments), arguments[0]
        if request is None:
            return None
        if request.type not in ("https", asked.type):
            raise URLError("it leads to an address that is not HTTPS")
        if (request.type, request.host) != (asked.type, asked.host):
            request.remove_header("Authorization")
        return request


class _Hub:
    """One hub, and the token that goes to it and to nobody else."""

    def __init__(self, endpoint: str, token: str) -> None:
        self._endpoint = endpoint
        self._token = token
        self._opener = build_opener(TokenStaysHome)
        self._left_bytes = _MOST_FETCHED_BYTES

    def files(self, repository: str, revision: str) -> Iterator[tuple[str, int]]:
        """Path and size of each file of a repository."""
        address = f"{self._endpoint}/api/models/{repository}/tree/{revision}?recursive=true"
        count = 0
        for _ in range(_MOST_PAGES):
            body, following = self._get(address, {}, _MOST_LISTED_BYTES)
            for path, size in _listed(body):
                count += 1
                if count > MAX_FILES:
                    raise Unreadable(f"the repository has more than {MAX_FILES} files")
                yield path, size
            address = following if following.startswith(f"{self._endpoint}/") else ""
            if not address:
                return
        raise Unreadable(f"the list of files has more than {_MOST_PAGES} pages")

    def head(self, place: str, path: str, size: int) -> bytes:
        """The first bytes of a file that tell about the model."""
        if not size or not wanted_bytes(path, ""):
            return b""
        beginning = self._range(place, 0, min(size, LENGTH_BYTES))
        count = sent_bytes(path, "", size, beginning)
        return beginning + (self._range(place, len(beginning), count) if count > len(beginning) else b"")

    def _range(self, place: str, start: int, end: int) -> bytes:
        """Bytes from start to before end; a server that does not know ranges sends all, of which the end is left."""
        body, _ = self._get(f"{self._endpoint}/{place}", {"Range": f"bytes={start}-{end - 1}"}, end, start)
        return body

    def _get(self, address: str, headers: dict[str, str], most_bytes: int, start: int = 0) -> tuple[bytes, str]:
        request = Request(address, headers={"User-Agent": "kubectl-ome_models", **headers})  # noqa: S310 (see sketch)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
                partial = response.status == http.client.PARTIAL_CONTENT
                body = response.read(most_bytes - start if partial else most_bytes)
                self._left_bytes -= len(body)
                if self._left_bytes < 0:
                    raise Unreadable(f"{self._endpoint} sends more than {_MOST_FETCHED_BYTES >> 20} MiB")
                following = _NEXT.search(response.headers.get("Link") or "")
                return (body if partial else body[start:]), following.group(1) if following else ""
        except HTTPError as error:
            with error:
                said = error.headers.get("X-Error-Message") or error.reason
            raise Unreadable(f"{self._endpoint} answers {error.code}: {said}") from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreadable(f"{self._endpoint} cannot be asked: {getattr(error, 'reason', error)}") from error


def _listed(body: bytes) -> list[tuple[str, int]]:
    """Path and size of the files of a page of the list. Raises Unreadable."""
    try:
        entries = json.loads(body)
        found = [(each["path"], each["size"]) for each in entries if each["type"] == "file"]
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise Unreadable("what the hub sends is no list of files") from error
    if not all(isinstance(path, str) and type(size) is int and 0 <= size <= _MOST_FILE_BYTES for path, size in found):
        raise Unreadable("what the hub sends is no list of files")
    return found

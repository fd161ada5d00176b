"""Client of the hub's admin API, and its values. Standard library only; must not import the server."""

import base64
import fnmatch
import http.client
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

ADMIN_PREFIX = "/-/"
# Long enough to generate and hash some GiB.
_TIMEOUT_SECONDS = 600

FaultKind = Literal[
    "status",  # answers with `status`, and with `retry_after` and `error_code` when given
    "delay",  # waits for `seconds`, then answers as usual
    "reset",  # closes the connection without an answer
    "redirect",  # 302 to `location`; without one, to the request's own URL: a loop
    "ignore_range",  # 200 with the whole file where 206 was due
    "unsatisfiable",  # 416 to a request with a range
    "cut",  # closes the connection after `after_bytes` of the body
    "stall",  # sends `after_bytes` of the body, and the rest when released
    "throttle",  # sends `bytes_per_second`, per response
    "corrupt",  # flips every bit of the byte at `offset` of the file; the length stays right
    "short",  # leaves away the last `after_bytes` (at least 1) of the body, and says so in Content-Length
    "long",  # adds `after_bytes` (at least 1) zeros to the body, and says so in Content-Length
    "wrong_range",  # Content-Range names a place `offset` (at least 1) bytes further than what is sent
]


@dataclass(frozen=True)
class Fault:
    """What goes wrong, where, and how often.

    path is a glob over the URL's path, where "*" matches "/" too. On the hub it is /{id}/resolve/{revision}/{file} or
    /api/models/{id}/..., on the CDN /repos/{id}/{sha256}/{file}: so "*/model.safetensors" matches a file on both.
    On the port of Xet storage ("cas") it is /v1/reconstructions/{hash} or /xorbs/{hash}.
    The first `skip` matching requests pass; then `count` of them are hit, all when it is None. Of several faults that
    match a request the first injected one is taken, and one more if it concerns the body while the first does not.
    """

    kind: FaultKind
    path: str = "*"
    method: str = "*"
    port: Literal["hub", "cdn", "cas", "*"] = "*"
    count: int | None = None
    skip: int = 0
    status: int = 503
    retry_after: str | None = None
    error_code: str | None = None
    seconds: float = 0.0
    location: str | None = None
    after_bytes: int = 0
    bytes_per_second: int = 1 << 20
    offset: int = 0


@dataclass(frozen=True)
class GeneratedFile:
    """A file made up by the hub, the same bytes for the same values in every process.

    A path that ends in .safetensors has a valid header with one bfloat16 tensor. sparse: zeros that take no space on
    disk, with 4 KiB of noise every 64 MiB, for models larger than the disk; otherwise all of it is noise.
    """

    path: str
    size_bytes: int
    seed: int = 0
    sparse: bool = False


@dataclass(frozen=True)
class LoggedRequest:
    """One request that reached the hub; the query is left out, as it may hold a signature."""

    number: int
    port: Literal["hub", "cdn", "cas"]
    method: str
    path: str
    range: str
    status: int
    bytes_sent: int
    authorized: bool
    connection: int
    user_agent: str
    fault: str


class InjectedFault:
    """A fault in force."""

    def __init__(self, client: "HubClient", identity: str) -> None:
        self._client = client
        self.identity = identity

    @property
    def fired(self) -> int:
        """How often the fault took effect."""
        return int(self._client.call("fault", identity=self.identity)["fired"])

    def wait_fired(self, times: int = 1, seconds: float = 60.0) -> None:
        """Wait until the fault took effect so often."""
        fired = self._client.call("fault", identity=self.identity, times=times, seconds=seconds)["fired"]
        assert fired >= times, f"{self.identity} fired {fired} times, not {times}, within {seconds} s"

    def release(self) -> None:
        """Let stalled responses go on; later ones do not stall any more."""
        self._client.call("release_fault", identity=self.identity)

    def remove(self) -> None:
        """End the fault. fired can still be asked for."""
        self._client.call("remove_fault", identity=self.identity)


class HubClient:
    """Changes and observes a hub, in this process or another one on this machine."""

    def __init__(self, endpoint: str, ca_file: Path | str | None = None) -> None:
        """ca_file is whom to trust when the endpoint is https."""
        self.endpoint = endpoint.rstrip("/")
        self._ca_file = ca_file

    def add_model(
        self,
        repository: str,
        files: Mapping[str, bytes | str] | None = None,
        *,
        directory: Path | None = None,
        generated: Sequence[GeneratedFile] = (),
        lfs_paths: Sequence[str] = (),
        gated: bool | str = False,
        private: bool = False,
    ) -> str:
        """Create or replace a model repository with one commit on main, and return the commit.

        lfs_paths are globs of files that go through LFS whatever their name and size.
        """
        return str(
            self.call(
                "add_model",
                repository=repository,
                gated=gated,
                private=private,
                **_content(files, directory, generated, lfs_paths),
            )
        )

    def push(
        self,
        repository: str,
        files: Mapping[str, bytes | str] | None = None,
        *,
        directory: Path | None = None,
        generated: Sequence[GeneratedFile] = (),
        lfs_paths: Sequence[str] = (),
        delete: Sequence[str] = (),
        branch: str = "main",
    ) -> str:
        """Change files in a new commit on a branch, which is made from main if need be; return the commit."""
        return str(
            self.call(
                "push",
                repository=repository,
                branch=branch,
                delete=list(delete),
                **_content(files, directory, generated, lfs_paths),
            )
        )

    def tag(self, repository: str, name: str, revision: str = "main") -> None:
        """Let a tag name the commit that a revision names now."""
        self.call("tag", repository=repository, name=name, revision=revision)

    def delete_model(self, repository: str) -> None:
        """Remove a repository, as its owner can."""
        self.call("delete_model", repository=repository)

    def set_access(
        self,
        repository: str,
        *,
        gated: bool | str | None = None,
        private: bool | None = None,
        disabled: bool | None = None,
        listing_gated: bool | None = None,
    ) -> None:
        """Change who may read a repository; None leaves as is.

        As on the real hub everybody can list a gated repository, unless listing_gated is set.
        """
        changes = {"gated": gated, "private": private, "disabled": disabled, "listing_gated": listing_gated}
        self.call(
            "set_access", repository=repository, **{key: value for key, value in changes.items() if value is not None}
        )

    def add_token(self, token: str, repositories: Sequence[str] = ()) -> None:
        """Accept a token, and let it read these private or gated repositories ("*": all) and no others."""
        self.call("add_token", token=token, repositories=list(repositories))

    def remove_token(self, token: str) -> None:
        """Refuse a token from now on."""
        self.call("remove_token", token=token)

    def configure(
        self,
        *,
        page_size: int | None = None,
        link_seconds: float | None = None,
        cdn: bool | None = None,
        small_file_redirects: bool | None = None,
        api_quota: int | None = None,
        resolve_quota: int | None = None,
        xet: bool | None = None,
        xet_token_seconds: float | None = None,
        xet_swapped_terms: bool | None = None,
    ) -> None:
        """Change how the hub behaves; None leaves as is.

        page_size: entries per page of a tree (1000). link_seconds: life of a signed link (3600). cdn: whether large
        files are redirected (yes). small_file_redirects: whether small ones take a relative redirect, as they do on the
        real hub (no).
        Quotas: requests per 300 s of the API and of resolve, after which 429 is the answer; zero is no limit (both).
        xet: whether large files lie in Xet storage as well (no). xet_token_seconds: life of a token for it (3600).
        xet_swapped_terms: whether it gives the first two parts of a file in the wrong order (no).
        """
        changes = {
            "page_size": page_size,
            "link_seconds": link_seconds,
            "cdn": cdn,
            "small_file_redirects": small_file_redirects,
            "api_quota": api_quota,
            "resolve_quota": resolve_quota,
            "xet": xet,
            "xet_token_seconds": xet_token_seconds,
            "xet_swapped_terms": xet_swapped_terms,
        }
        self.call("configure", **{key: value for key, value in changes.items() if value is not None})

    def expire_links(self) -> None:
        """Let every signed link that was handed out so far be expired."""
        self.call("expire_links")

    def inject(self, fault: Fault) -> InjectedFault:
        """Put a fault into force."""
        return InjectedFault(self, str(self.call("inject", **asdict(fault))))

    def clear_faults(self) -> None:
        """End every fault and release what is stalled."""
        self.call("clear_faults")

    def requests(self, path: str = "*", method: str = "*", port: str = "*") -> list[LoggedRequest]:
        """Requests so far, oldest first, those in flight included, whose path, method and port match the globs."""
        logged = (LoggedRequest(**row) for row in self.call("requests"))
        return [
            request
            for request in logged
            if fnmatch.fnmatchcase(request.path, path)
            and fnmatch.fnmatchcase(request.method, method)
            and fnmatch.fnmatchcase(request.port, port)
        ]

    def sent_bytes(self, path: str = "*") -> int:
        """Bytes of bodies sent so far for paths that match."""
        return sum(request.bytes_sent for request in self.requests(path))

    def forget_requests(self) -> None:
        """Empty the log."""
        self.call("forget_requests")

    def call(self, operation: str, **arguments: Any) -> Any:
        """One operation of the admin API. Raises AssertionError with the hub's words when it refuses."""
        address = urlsplit(self.endpoint)
        host = address.hostname or ""
        connection: http.client.HTTPConnection
        if address.scheme == "https":
            context = ssl.create_default_context(cafile=self._ca_file)
            connection = http.client.HTTPSConnection(host, address.port, timeout=_TIMEOUT_SECONDS, context=context)
        else:
            connection = http.client.HTTPConnection(host, address.port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("POST", ADMIN_PREFIX + quote(operation), json.dumps(arguments))
            response = connection.getresponse()
            body = json.loads(response.read())
        finally:
            connection.close()
        assert response.status == 200, f"hub refuses {operation}: {body}"
        return body


def generated_model(size_bytes: int, shards: int = 1, seed: int = 0, sparse: bool = False) -> list[GeneratedFile]:
    """The weights of a made-up model: shards of equal size, together about size_bytes, with their index.

    The hub adds a config.json and, for several shards, the index.
    """
    if shards == 1:
        return [GeneratedFile("model.safetensors", size_bytes, seed, sparse)]
    each = size_bytes // shards
    return [
        GeneratedFile(f"model-{number:05d}-of-{shards:05d}.safetensors", each, seed * 1000 + number, sparse)
        for number in range(1, shards + 1)
    ]


def _content(
    files: Mapping[str, bytes | str] | None,
    directory: Path | None,
    generated: Sequence[GeneratedFile],
    lfs_paths: Sequence[str],
) -> dict[str, Any]:
    encoded = {
        path: base64.b64encode(data.encode() if isinstance(data, str) else data).decode()
        for path, data in (files or {}).items()
    }
    return {
        "files": encoded,
        "directory": str(directory) if directory else "",
        "generated": [asdict(file) for file in generated],
        "lfs_paths": list(lfs_paths),
    }

"""Lists Hugging Face repositories: from a revision to a commit and its manifest. Only this module uses huggingface_hub.

Must not transfer content, and must not retry: the controller decides when a listing is tried again. Import it when the
first repository is listed, and on a thread of its own: the SDK takes tens of megabytes and a good part of a second.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, constants, set_client_factory
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

from libs.artifact.errors import InvalidValue
from libs.artifact.findings import Remark
from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, leave_out, new_manifest
from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid, Missing, ServiceError, Unavailable
from services.fetcher.sources.hub.source import HubOrigin, HubSource
from services.fetcher.sources.selection import select_files
from services.fetcher.transfer.refusals import said_by
from services.fetcher.transfer.retry import asked_pause_seconds
from services.fetcher.transfer.tls import tls_context

# A listing is a few small answers; what takes longer will not come.
_TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
_PUBLIC_HUB = "https://huggingface.co"
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ADVICE = "create a Secret with an access token of Hugging Face under the key 'token' and name it in storage.storageKey"
_ENDPOINT: ContextVar[str] = ContextVar("endpoint of the listing that this thread works on")
_HELD: ContextVar[httpx2.Client | None] = ContextVar("client of that listing, which goes where its model may")


@dataclass(frozen=True)
class HubListing:
    """What a revision was when it was listed."""

    commit: str
    manifest: Manifest
    warnings: tuple[Remark, ...]


def list_revision(source: HubSource) -> HubListing:
    """Resolve a revision to a commit and list the files to fetch of exactly that commit. Blocks for seconds.

    Raises Missing NotFound, Gated or Forbidden; Unavailable RateLimited or Unavailable, with the pause that the hub
    asks for; Invalid InvalidUri or InvalidParameter; InvalidValue InvalidListing.
    """
    api = HfApi(endpoint=source.endpoint, token=source.token or False, library_name="ome")
    with _errors_of(source):
        info = api.model_info(source.repository, revision=source.revision or None)
        commit = _commit(source, info.sha)
        entries = api.list_repo_tree(source.repository, recursive=True, revision=commit)
        # The SDK's own entries are several times as large, and some repositories have tens of thousands.
        files = {entry.path: _listed(entry) for entry in entries if isinstance(entry, RepoFile)}
        selection = select_files(files.keys(), source.choice)
        if not selection.paths:
            raise _nothing_selected(source, len(files))
        manifest = new_manifest(commit, (_checked(path, *files[path]) for path in selection.paths))
        if info.gated:
            # Everybody may list a gated repository: better to learn here than on every node that content is refused.
            smallest = min(manifest.files, key=lambda file: file.size_bytes)
            api.get_hf_file_metadata(url=HubOrigin(source, commit).locate(smallest, again=False).url)
    return HubListing(commit, manifest, selection.warnings)


def xet_hashes(source: HubSource, commit: str) -> dict[tuple[str, str], str]:
    """The name in Xet storage of each file that lies there, by path and SHA-256. Blocks for seconds.

    Empty where a hub or a mirror knows nothing of Xet. Raises as list_revision does.
    """
    api = HfApi(endpoint=source.endpoint, token=source.token or False, library_name="ome")
    with _errors_of(source):
        entries = api.list_repo_tree(source.repository, recursive=True, revision=commit)
        return {
            (entry.path, entry.lfs.sha256): entry.xet_hash
            for entry in entries
            if isinstance(entry, RepoFile) and entry.lfs and entry.xet_hash and _SHA256.fullmatch(entry.xet_hash)
        }


class _Client(httpx2.Client):
    """One attempt per request, with a timeout, at the endpoint of the listing and nowhere else.

    The SDK retries some calls five times, waits for rate limits in its thread, and has no timeout of its own. Remove
    when it takes a timeout and a number of attempts.
    """

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        endpoint = _ENDPOINT.get("")
        if not endpoint:
            return super().send(request, **options)
        request.extensions = {**request.extensions, "timeout": _TIMEOUT.as_dict()}
        _keep_at(endpoint, request)
        held = _HELD.get(None)
        try:
            response = held.send(request, **options) if held else super().send(request, **options)
        except httpx2.TransportError as error:
            raise _UnreachableError(error) from error
        # Raised here rather than by the SDK, which would look whether to retry first.
        hf_raise_for_status(response)
        return response


class _UnreachableError(Exception):
    """No answer. A type of our own, because the SDK retries httpx2's."""


def _keep_at(endpoint: str, request: httpx2.Request) -> None:
    """Keep a request at the endpoint.

    A mirror may hand out the public hub's address for the next page of a listing; and a token must go nowhere else.
    """
    here, asked = urlsplit(endpoint), urlsplit(str(request.url))
    if (asked.scheme, asked.netloc) == (here.scheme, here.netloc):
        return
    if f"{asked.scheme}://{asked.netloc}" != _PUBLIC_HUB:
        raise _UnreachableError(f"it continues its listing at {asked.netloc}")
    path = f"{here.path}{asked.path}?{asked.query}"
    request.url = httpx2.URL(f"{here.scheme}://{here.netloc}{path}")
    request.headers["Host"] = here.netloc


def _new_client() -> httpx2.Client:
    return _Client(follow_redirects=True, timeout=_TIMEOUT, verify=tls_context())


# At import, because the SDK has one client for the whole process, and nobody else uses the SDK.
set_client_factory(_new_client)
# Otherwise the first request of a process asks the public hub, not the mirror, what to put into User-Agent. The SDK
# reads its variable at import only, and whoever sets it late is too late. Remove when it asks its endpoint, or nobody.
constants.HF_HUB_DISABLE_TELEMETRY = True


@contextmanager
def _errors_of(source: HubSource) -> Iterator[None]:
    """Turn what the SDK raises into what the caller does next."""
    token = _ENDPOINT.set(source.endpoint)
    held = _held_client(source)
    client = _HELD.set(held)
    try:
        yield
    except (ServiceError, InvalidValue):
        raise
    except _UnreachableError as error:
        problem = source.passage.problem(source.name) if source.passage else None
        raise problem or _unreachable(source, error) from error
    except HFValidationError as error:
        raise Invalid(Reason.INVALID_URI, f"{source.name}: {error}") from error
    except HfHubHTTPError as error:
        # A request over plain http is answered by the gate itself where it leads nowhere.
        problem = source.passage.problem(source.name) if source.passage else None
        raise problem or _refused(source, error) from error
    except httpx2.HTTPError as error:
        raise _unreachable(source, error) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # The SDK takes answers apart without looking.
        raise Unavailable(
            Reason.UNAVAILABLE,
            f"{source.endpoint} does not answer as the Hugging Face Hub does ({type(error).__name__}); "
            "check the endpoint and proxies on the way",
        ) from error
    finally:
        _HELD.reset(client)
        _ENDPOINT.reset(token)
        if held:
            held.close()


def _held_client(source: HubSource) -> httpx2.Client | None:
    """A client whose connections lead through the source's passage, and by no variable of the environment past it."""
    if source.passage is None:
        return None
    return httpx2.Client(
        proxy=source.passage.url, trust_env=False, follow_redirects=True, timeout=_TIMEOUT, verify=tls_context()
    )


def _unreachable(source: HubSource, error: Exception) -> Unavailable:
    return Unavailable(Reason.UNAVAILABLE, f"{source.endpoint} cannot be reached to list {source.name}: {error}")


def _refused(source: HubSource, error: HfHubHTTPError) -> ServiceError:
    status = error.response.status_code
    match error:
        case GatedRepoError():
            return Missing(Reason.GATED, _gated_message(source))
        case DisabledRepoError():
            return Missing(
                Reason.FORBIDDEN, f"{source.name} has been disabled by its owner or by the hub{_said(source, error)}"
            )
        case RevisionNotFoundError():
            return Missing(
                Reason.NOT_FOUND,
                f"{source.name} has no revision {source.revision or 'main'!r}: "
                "check storageUri and parameters.revision",
            )
    if status == HTTPStatus.UNAUTHORIZED and source.token:
        return Missing(
            Reason.FORBIDDEN,
            f"{source.endpoint} does not accept the token for {source.name}: it is wrong, expired or revoked; "
            "replace it in the Secret named by storage.storageKey",
        )
    if isinstance(error, RepositoryNotFoundError) or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND):
        return Missing(Reason.NOT_FOUND, _missing_message(source))
    if status == HTTPStatus.FORBIDDEN:
        return Missing(Reason.FORBIDDEN, f"{source.endpoint} refuses to list {source.name}{_said(source, error)}")
    if status == HTTPStatus.BAD_REQUEST:
        return Invalid(Reason.INVALID_URI, f"{source.endpoint} does not understand {source.name}{_said(source, error)}")
    pause = asked_pause_seconds(
        {name.lower(): value for name, value in error.response.headers.items()}, datetime.now(UTC)
    )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        advice = "" if source.token else f"; with a token the limit is higher: {_ADVICE}"
        return Unavailable(
            Reason.RATE_LIMITED,
            f"{source.endpoint} asks to slow down (HTTP 429) when listing {source.name}{advice}",
            pause,
        )
    return Unavailable(
        Reason.UNAVAILABLE, f"{source.endpoint} does not list {source.name}{_said(source, error)}", pause
    )


def _gated_message(source: HubSource) -> str:
    page = f"{source.endpoint}/{source.repository}"
    if source.token:
        return f"{source.name} is gated and the token's owner has not been granted access: ask for it at {page}"
    return f"{source.name} is gated: ask for access at {page}, then {_ADVICE}"


def _missing_message(source: HubSource) -> str:
    if source.token:
        return (
            f"{source.name} does not exist at {source.endpoint}, or the token's owner may not see it: check storageUri"
        )
    return (
        f"{source.name} does not exist at {source.endpoint}, or is private: "
        f"check storageUri; if it is private, {_ADVICE}"
    )


def _said(source: HubSource, error: HfHubHTTPError) -> str:
    response = error.response
    headers = {name.lower(): value for name, value in response.headers.items()}
    # A mirror may repeat what it was sent.
    said = said_by(headers, response.content, [source.token or ""])
    return f" ({said.behind(response.status_code)})"


def _commit(source: HubSource, sha: str | None) -> str:
    if sha is None or not _COMMIT.fullmatch(sha):
        raise Unavailable(Reason.UNAVAILABLE, f"{source.endpoint} does not say which commit of {source.name} it has")
    return sha


def _nothing_selected(source: HubSource, count: int) -> ServiceError:
    if source.choice.has_patterns:
        return Invalid(
            Reason.INVALID_PARAMETER,
            f"allowPatterns and ignorePatterns leave none of the {count} files of {source.name}; "
            "a pattern is matched against the whole path, as in '*.safetensors' or 'onnx/*'",
        )
    return Missing(Reason.NOT_FOUND, f"{source.name} holds no files")


def _listed(entry: RepoFile) -> tuple[int, ChecksumAlgorithm, str]:
    """Size and checksum of a file. Git names it by the SHA-1 of its content, LFS by SHA-256."""
    if entry.lfs is not None:
        return entry.lfs.size, ChecksumAlgorithm.SHA256, entry.lfs.sha256
    return entry.size, ChecksumAlgorithm.GIT_SHA1, entry.blob_id


def _checked(path: str, size: int, algorithm: ChecksumAlgorithm, checksum: str) -> ManifestFile:
    pattern = _SHA256 if algorithm is ChecksumAlgorithm.SHA256 else _SHA1
    if not pattern.fullmatch(checksum):
        raise InvalidValue(
            Reason.INVALID_LISTING,
            f"the source lists {path!r} with {checksum!r}, which is no {algorithm.value}: {leave_out(path)}",
        )
    return ManifestFile(path, size, algorithm, checksum)

"""Lists ModelScope repositories: from a revision to a commit and its manifest, by one request to the hub's API.

Must not transfer content, and must not retry: the controller decides when a listing is tried again.
"""

from datetime import UTC, datetime
from http import HTTPStatus

from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid, Missing, ServiceError, Unavailable
from services.fetcher.sources.backend import Listing
from services.fetcher.sources.documents import Allowance, Documents
from services.fetcher.sources.modelscope.source import ModelScopeSource
from services.fetcher.sources.modelscope.tree import manifest_of, read_tree
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.egress import ANYWHERE, Rule
from services.fetcher.transfer.refusals import Said
from services.fetcher.transfer.retry import asked_pause_seconds
from services.fetcher.transfer.wire import Head

# The whole listing is one document: 100,000 files take about half of it.
_ALLOWANCE = Allowance(seconds=90.0, most_bytes=64 << 20)
_ADVICE = "create a Secret with an access token of ModelScope under the key 'token' and name it in storage.storageKey"


def list_revision(source: ModelScopeSource, stop: StopFlag, egress: Rule = ANYWHERE) -> Listing:
    """Resolve a revision to a commit and list the files to fetch of it. Blocks for seconds.

    Raises Missing NotFound or Forbidden; Unavailable RateLimited or Unavailable, with the pause that the hub asks for;
    Invalid InvalidUri or InvalidParameter; InvalidValue InvalidListing; Stopped when the process ends.
    """
    documents = Documents(
        source.listing_url,
        source.headers,
        source.name,
        "the hub's listing",
        stop,
        _ALLOWANCE,
        lambda head, said: _refused(source, head, said),
        egress,
    )
    document = documents.read(source.listing_url)
    code = document.get("Code", HTTPStatus.OK)
    if code != HTTPStatus.OK:
        # Some refusals come as an answer that is well, with a code in it: an HTTP status, or a number of the hub's own.
        raise _refused(source, Head(code if isinstance(code, int) else 0, {}), Said())
    manifest, selection = manifest_of(read_tree(document, source), source)
    return Listing(manifest, selection.warnings)


def _refused(source: ModelScopeSource, head: Head, said: Said) -> ServiceError:
    status, told = head.status, said.behind(head.status)
    pause = asked_pause_seconds(head.headers, datetime.now(UTC))
    match status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN if source.token:
            return Missing(
                Reason.FORBIDDEN,
                f"{source.endpoint} does not let the token read {source.name} ({told}): it is wrong or expired, "
                "or its owner has not been granted access; replace it in the Secret named by storage.storageKey",
            )
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return Missing(
                Reason.FORBIDDEN,
                f"{source.endpoint} lets nobody read {source.name} without a token ({told}): {_ADVICE}",
            )
        case HTTPStatus.NOT_FOUND:
            private = "" if source.token else f"; if it is private, {_ADVICE}"
            return Missing(
                Reason.NOT_FOUND,
                f"{source.name} does not exist at {source.endpoint}, or may not be seen: check storageUri{private}",
            )
        case HTTPStatus.BAD_REQUEST:
            return Invalid(Reason.INVALID_URI, f"{source.endpoint} does not understand {source.name}: check storageUri")
        case HTTPStatus.TOO_MANY_REQUESTS:
            return Unavailable(
                Reason.RATE_LIMITED, f"{source.endpoint} asks to slow down ({told}) when listing {source.name}", pause
            )
        case _ if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return Unavailable(
                Reason.UNAVAILABLE,
                f"{source.endpoint} redirects the listing of {source.name} (HTTP {status}), which is not followed: "
                "name the address that it leads to as endpoint",
            )
    words = said.behind(0)
    what = f"{source.endpoint} answers {status} when listing {source.name}" + (f" ({words})" if words else "")
    return Unavailable(Reason.UNAVAILABLE, what, pause)

"""Which revision of a model its nodes are to hold: the one that was listed, or an earlier one that a person names.

Keeps the history of the last revisions, which the status shows and by which one goes back. Pure.
"""

from collections.abc import Iterable, Sequence

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.artifact.specification import REVISION_ANNOTATION
from libs.artifact.uri import HuggingFaceUri, ModelScopeUri, parse_uri
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2

# How many revisions are remembered, the present one included.
REMEMBERED = 5
# Of a revision or a digest, so much must be written to name it.
_LEAST_CHARACTERS = 7
_SHOWN_CHARACTERS = 12


def with_revision(
    history: Iterable[fetch_pb2.Revision], artifact: model_pb2.Artifact, source_key: str, wall_seconds: float
) -> list[fetch_pb2.Revision]:
    """The history once nodes are to hold an artifact. The same again when they already are; one that comes back moves
    to the front with a new time.
    """
    known = list(history)
    if known and (known[0].artifact.digest, known[0].source_key) == (artifact.digest, source_key):
        return known
    newest = fetch_pb2.Revision(artifact=artifact, source_key=source_key)
    newest.since.FromMilliseconds(int(wall_seconds * 1000))
    return [newest, *(each for each in known if each.artifact.digest != artifact.digest)][:REMEMBERED]


def kept_revisions(history: Iterable[fetch_pb2.Revision], artifact: model_pb2.Artifact, limit: int) -> list[str]:
    """Digests of the earlier revisions that nodes are to keep beside an artifact, those held last first."""
    digests = [each.artifact.digest for each in history if each.artifact.digest != artifact.digest]
    return digests[: max(0, limit)]


def named_revision(history: Sequence[fetch_pb2.Revision], named: str, source_key: str) -> fetch_pb2.Revision | None:
    """The revision of the history that an annotation names, by the beginning of its digest or of the source's word.

    None without one. Raises InvalidValue with reason InvalidParameter, and the revisions there are.
    """
    if not named:
        return None
    of_source = [each for each in history if each.source_key == source_key]
    found = [each for each in of_source if _is_named(each.artifact, named)]
    if len(found) == 1:
        return found[0]
    possible = ", ".join(shown_revision(each.artifact) for each in of_source) or "none yet"
    why = "names more than one revision" if found else "names no revision of this source"
    raise InvalidValue(
        Reason.INVALID_PARAMETER,
        f"the annotation {REVISION_ANNOTATION} {why} in status.history; there are: {possible}. "
        "To hold a revision of another source, write that into storage.storageUri",
    )


def recorded_pinned(
    history: Sequence[fetch_pb2.Revision], recorded: model_pb2.Artifact, source_key: str
) -> fetch_pb2.Revision | None:
    """The revision that nodes were to hold, as the object's status says, for a pinned model whose plan has been lost.

    recorded is an artifact that status tells of the present generation; empty where it tells none.
    """
    if history:
        return history[0] if history[0].source_key == source_key else None
    return fetch_pb2.Revision(artifact=recorded, source_key=source_key) if recorded.digest else None


def source_at(source: fetch_pb2.Source, revision: str) -> fetch_pb2.Source | None:
    """The source as it was at a revision, where its hub can still be asked for that; None where it cannot."""
    uri = parse_uri(source.uri)
    if not revision or not isinstance(uri, HuggingFaceUri | ModelScopeUri):
        return None
    at = fetch_pb2.Source()
    at.CopyFrom(source)
    at.uri = f"{source.uri.partition('@')[0]}@{revision}"
    at.parameters.pop("revision", None)
    return at


def shown_revision(artifact: model_pb2.Artifact) -> str:
    """A revision for people: what the source calls it, else the digest, in short."""
    revision = artifact.source_revision
    if revision:
        return f"revision {revision[:_SHOWN_CHARACTERS]}"
    return f"revision {artifact.digest[: len('sha256:') + _SHOWN_CHARACTERS]}"


def _is_named(artifact: model_pb2.Artifact, named: str) -> bool:
    if len(named) < _LEAST_CHARACTERS:
        return named == artifact.source_revision
    digest = named if named.startswith("sha256:") else f"sha256:{named}"
    return artifact.digest.startswith(digest) or artifact.source_revision.startswith(named)

"""Which revision of a model its nodes are to hold: the one that was listed, or an earlier one that a person names.

Keeps the history of the last revisions, which the status shows and by which one goes back. Pure.
"""

from collections.abc import Iterable, Sequence

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.artifact.specification import REVISION_ANNOTATION
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

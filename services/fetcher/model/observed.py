"""What is known about one model on this node: what the controller wants, what is on disk, what is under way.

Nouns only: planning decides from them, and the model loop looks them up.
"""

from dataclasses import dataclass, field
from enum import Enum

from ome.fetch.v1.fetch_pb2 import Assignment, Problem
from ome.model.v1.model_pb2 import Artifact
from ome.parser.v1.parser_pb2 import ModelFacts
from services.fetcher.model.removal import Fate, Use

# What is asked for the bytes: URI and sorted parameters.
SourceAddress = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Desired:
    """What the controller wants of this node for one model, and the revision of the key that says so."""

    revision: int
    assignment: Assignment

    @property
    def copies(self) -> bool:
        """Whether the model is an artifact to be fetched, rather than a directory of the node's own."""
        return bool(self.assignment.artifact.digest)

    @property
    def source(self) -> SourceAddress:
        """What is asked for the bytes, and how."""
        source = self.assignment.source
        return source.uri, tuple(sorted(source.parameters.items()))


@dataclass(frozen=True)
class PublishedName:
    """A name under which readers find a model: path as the node sees it, in the store of one root."""

    root: str
    path: str
    artifact: Artifact
    # The link stands and leads to the artifact.
    intact: bool
    # Files of the artifact are missing or wrong. Of the desired copy this is said by damaged of Copy.
    damaged: bool = False


@dataclass(frozen=True)
class Copy:
    """The desired artifact in the store of the root where the model belongs, or the directory of a local:// model."""

    held: bool = False
    # Files that are missing or wrong although the artifact is held.
    damaged: tuple[str, ...] = ()
    # Changes whenever the files may have: a digest, or a fingerprint of a directory that is not ours.
    identity: str = ""
    # Another model's source has brought it, and this one's has not been asked whether it has the same.
    foreign: bool = False

    @property
    def complete(self) -> bool:
        """Whether readers may be led to it."""
        return self.held and not self.damaged


class TransferPhase(Enum):
    """How far a transfer is."""

    QUEUED = "queued"
    RUNNING = "running"
    # Told to stop for the sake of a more important one, after which it is queued again.
    YIELDING = "yielding"
    # Told to stop, and still writing.
    STOPPING = "stopping"


@dataclass(frozen=True)
class Transfer:
    """A transfer on behalf of this model."""

    root: str
    digest: str
    phase: TransferPhase
    bytes_done: int = 0
    # It has brought bytes, so the source is there and answers.
    moving: bool = False
    priority: int = 0
    # What it asks; None when that is not for this model alone to change.
    source: SourceAddress | None = None


@dataclass(frozen=True)
class Setback:
    """The last attempt to bring an assignment about failed."""

    # Revision of that assignment: another one is attempted at once.
    revision: int
    # With the time of the next attempt for people, by the clock on the wall.
    problem: Problem
    # The same by the clock that plan is told, which nobody sets; None when only another assignment can help.
    retry_at: float | None


@dataclass(frozen=True)
class Parsing:
    """What the parser said about the files that the model has now."""

    facts: ModelFacts | None = None
    # Key under which the fleet shares these facts; it is enough to know that, as after a restart.
    facts_key: str = ""
    problem: Problem | None = None
    # Of the next attempt after a problem, as in Setback; None when there is none.
    retry_at: float | None = None
    # The facts were made by the rules of another version. They are told until there are those of this one.
    outdated: bool = False
    # Why the files are known not to be the whole model, where the model does not allow that; empty otherwise.
    refusal: str = ""

    @property
    def found(self) -> bool:
        """Whether there are facts."""
        return self.facts is not None or bool(self.facts_key)


@dataclass(frozen=True)
class Kept:
    """A copy that has lost its name and is still on disk. Times are times of the day, in seconds."""

    artifact: Artifact
    # That has led to it, as the node sees it.
    path: str
    released_at: float
    # When it goes in any case.
    until: float
    # None as long as the controller has not said who uses it.
    use: Use | None
    # It stays for going back to it, whether or not Pods use it.
    revision: bool = False


@dataclass(frozen=True)
class Spared:
    """Why a name that is to go still stands. until is the time of day when it goes in any case."""

    fate: Fate
    until: float
    use: Use | None


@dataclass(frozen=True)
class Observed:
    """What is on disk and under way for one model on this node."""

    # Where the model belongs: the root whose store takes it and the path as the node sees it. Empty when unknown.
    root: str = ""
    path: str = ""
    copy: Copy = field(default_factory=Copy)
    publications: tuple[PublishedName, ...] = ()
    transfer: Transfer | None = None
    setback: Setback | None = None
    parsing: Parsing | None = None
    # Roots and digests that were fetched for the model, wholly or in part, and are of no use to it any more.
    leftovers: tuple[tuple[str, str], ...] = ()
    # When damage of a published copy may be repaired, by the clock that plan is told; None if nothing has to wait.
    repair_at: float | None = None
    # Roots in which the model stands where it may not: its name there is to go.
    evicted: tuple[str, ...] = ()
    # Copies that the model has let go of, and that Pods may still use.
    kept: tuple[Kept, ...] = ()
    # The model's name stays for now although it is to go.
    spared: Spared | None = None
    # Why the node is not to have a copy now although it is meant for the model; empty when it is.
    away: str = ""
    # Why the desired place cannot be used or, for local://, read.
    obstacle: Exception | None = None
    # False when looking itself failed: then nothing is known to be absent.
    complete: bool = True

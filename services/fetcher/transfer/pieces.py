"""What one transfer consists of: files, and the pieces of them that are asked for with one request each.

State only; the schedule changes it under its lock.
"""

from dataclasses import dataclass, field

from libs.artifact.manifest import ManifestFile
from services.fetcher.store.checksums import RunningChecksum, new_checksum
from services.fetcher.store.ingest import IncomingFile
from services.fetcher.transfer.addresses import Endpoint
from services.fetcher.transfer.origin import Location


@dataclass(eq=False)
class FileState:
    """One file of the manifest. Large ones are fetched in ranges, written in any order and hashed in order."""

    index: int
    file: ManifestFile
    large: bool
    running: RunningChecksum = field(init=False)
    incoming: IncomingFile | None = None
    # Bytes [0, frontier) are written, hashed and recorded; [frontier, issued) are asked for or wait to be hashed.
    frontier: int = 0
    issued: int = 0
    # How much of the frontier was on the node already: it says nothing about how fast the origin is.
    found: int = 0
    pieces: "set[Piece]" = field(default_factory=set)
    ready: "dict[int, Piece]" = field(default_factory=dict)
    # Threads that write or hash now; a restart waits for them, so that no old byte lands on a new one.
    busy: int = 0
    hashing: bool = False
    restarting: bool = False
    restarts: int = 0
    # Until the first response says how the origin answers, one request is out at most.
    answered: bool = False
    # The origin ignores Range: the file is read in one response, from the start.
    whole: bool = False
    redirect: Location | None = None
    entity_tags: dict[Endpoint, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.running = new_checksum(self.file)

    @property
    def name(self) -> str:
        """Path in the manifest."""
        return self.file.path

    @property
    def received(self) -> int:
        """Bytes that have arrived and were not found wrong."""
        return self.frontier + sum(piece.filled for piece in self.pieces)


@dataclass(eq=False)
class Piece:
    """Bytes [start, end) of a file. It has its buffer from the start, so that the lowest piece never waits."""

    state: FileState
    start: int
    end: int
    buffer: memoryview | None = None
    filled: int = 0
    attempts: int = 0
    refusals: int = 0
    redirects: int = 0
    locate_again: bool = False
    not_before: float = 0.0

    def progressed(self) -> None:
        """New bytes came: budgets begin anew."""
        self.attempts = self.refusals = self.redirects = 0
        self.locate_again = False

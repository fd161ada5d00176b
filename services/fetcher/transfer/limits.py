"""How much of a node and of an origin one transfer may use, and when it gives up."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one transfer. Memory is bounded by (buffers + connections) * range_bytes."""

    # Threads, each with one connection per host at a time.
    connections: int = 8
    # A multiple of 4096, for O_DIRECT. Smaller files are fetched with one plain request.
    range_bytes: int = 2 << 20
    # Ranges that are in flight or wait for an earlier one to be hashed.
    buffers: int = 20
    # More large files at once only make the disk seek.
    files_in_flight: int = 2
    # Requests that one connection carries at once, to hide the round trip.
    pipelined_ranges: int = 2
    pipelined_files: int = 8
    # A request that brings less than stall_bytes in this time is dropped and sent again.
    stall_seconds: float = 20.0
    stall_bytes: int = 4096
    # After so much silence the requests behind it go to other connections: a stalled file must not hold up others.
    overtake_seconds: float = 1.0
    connect_seconds: float = 10.0
    # Attempts in a row without a new byte of one range or file; each new byte renews the budget ...
    attempts: int = 6
    # ... and so many seconds without a new byte of anything end the transfer whatever the attempts.
    patience_seconds: float = 300.0
    backoff_initial_seconds: float = 0.25
    backoff_cap_seconds: float = 20.0
    # An origin that asks for a longer pause than this gets it from the caller, who can do something else meanwhile.
    longest_wait_seconds: float = 60.0
    # Whole-file restarts after a wrong checksum or an object that changed while it was read.
    corrupt_attempts: int = 2
    redirects: int = 5
    progress_seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.range_bytes % 4096 or self.range_bytes <= 0:
            raise ValueError(f"range_bytes is {self.range_bytes}, which is not a positive multiple of 4096")
        if self.buffers < self.connections:
            raise ValueError(f"{self.buffers} buffers cannot keep {self.connections} connections busy")


def limits_for(processors: int) -> Limits:
    """Limits that suit a machine with so many processors."""
    # More threads than those can feed take turns at Python's lock: with two processors, eight threads are 10 % slower
    # than four with large files and 20 % with small ones.
    return Limits(connections=min(max(2 * processors, 4), 8))

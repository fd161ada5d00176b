"""Reads files from Xet storage, as a process of its own that xet_streams.py starts. Only this module uses hf_xet.

The SDK is a runtime of its own in native code: it cannot be told to stop, takes hundreds of megabytes, and has been
seen to hang. A process can be killed and gives its memory back. Must not retry, verify or write files: the process at
the other end of the pipe does.

Standard input: one line of JSON (Opening), then one per file (Wanted). Standard output, for each file: frames of one
byte of kind, four of length, and so many bytes; DATA any number of times, then END or FAILED with a word of FAILURES.
"""

import json
import os
import struct
import sys
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import BinaryIO

from services.fetcher.store.linux import end_with_parent

FRAME = struct.Struct("!cI")
DATA, END, FAILED = b"D", b"E", b"F"
# What may be told of an error. The SDK's own words may quote signed addresses.
FAILURES = {
    "refused": "does not accept the token",
    "missing": "does not have it",
    "unreachable": "cannot be reached",
    "broken": "failed to put it together",
}
# Of blocks that were fetched and wait for the one before. With 64 MB the process takes less than 300 MB, and was faster
# than with more; what the SDK chooses itself, a sixteenth of the machine, took 800 MB for the same file.
_BUFFER_BYTES = 64_000_000
_CONNECTIONS = 4


@dataclass(frozen=True)
class Opening:
    """Where tokens for the storage come from, and whose child this is. Holds the user's token."""

    token_url: str
    parent: int
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    # Of one request of the SDK's, which are few: who asks again for good is the caller.
    attempts: int = 3
    backoff_seconds: float = 1.0
    connect_seconds: float = 10.0

    def line(self) -> bytes:
        """As it is sent."""
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(frozen=True)
class Wanted:
    """A file by its name in the storage, from an offset on."""

    hash: str
    size_bytes: int
    offset: int

    def line(self) -> bytes:
        """As it is sent."""
        return json.dumps(asdict(self)).encode() + b"\n"


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    # Here, because the other side of the pipe imports this module for its words and must stay small.
    import hf_xet

    opening = Opening(**json.loads(requests.readline()))
    if not end_with_parent(opening.parent):
        return
    session = hf_xet.XetSession(hf_xet.XetConfig().with_config(_config(opening)))
    group = None
    for line in requests:
        wanted = Wanted(**json.loads(line))
        try:
            group = group or session.new_download_stream_group(
                token_refresh_url=opening.token_url, token_refresh_headers=opening.headers
            )
            info = hf_xet.XetFileInfo(wanted.hash, wanted.size_bytes)
            for block in group.download_stream(info, start=wanted.offset):
                _send(answers, DATA, block)
            _send(answers, END)
        except BrokenPipeError:
            return
        except hf_xet.XetAuthenticationError:
            _send(answers, FAILED, b"refused")
        except hf_xet.XetObjectNotFoundError:
            _send(answers, FAILED, b"missing")
        except OSError:
            _send(answers, FAILED, b"unreachable")
        except (RuntimeError, ValueError):
            _send(answers, FAILED, b"broken")


def _config(opening: Opening) -> dict[str, object]:
    return {
        "reconstruction.download_buffer_size": str(_BUFFER_BYTES),
        "reconstruction.download_buffer_perfile_size": str(_BUFFER_BYTES),
        "reconstruction.download_buffer_limit": str(_BUFFER_BYTES),
        "reconstruction.min_prefetch_buffer": str(_BUFFER_BYTES),
        "reconstruction.min_reconstruction_fetch_size": str(_BUFFER_BYTES),
        "client.ac_max_download_concurrency": _CONNECTIONS,
        "client.retry_max_attempts": opening.attempts,
        "client.retry_base_delay": timedelta(seconds=opening.backoff_seconds),
        "client.connect_timeout": timedelta(seconds=opening.connect_seconds),
        "telemetry.enabled": False,
    }


def _send(answers: BinaryIO, kind: bytes, content: bytes = b"") -> None:
    answers.write(FRAME.pack(kind, len(content)))
    answers.write(content)
    answers.flush()


if __name__ == "__main__":
    # Whatever native code prints must not come between the frames.
    with os.fdopen(os.dup(1), "wb") as answers_pipe:
        os.dup2(2, 1)
        serve(sys.stdin.buffer, answers_pipe)

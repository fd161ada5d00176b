"""What a node may tell of a transfer under way: keeps the figures of single files to a bounded number and size. Pure.

Whoever takes a Progress in calls it: figures of the whole are bounded where they are added up.
"""

from libs.artifact.wording import PATH_CHARACTERS, shown_path
from ome.fetch.v1.fetch_pb2 import FileProgress, Progress

# Files of one transfer that are told apart.
_MOST_FILES = 4
_MOST_BYTES, _MOST_BYTES_PER_SECOND, _LONGEST_SECONDS = 10**15, 10**12, 10**9


def bound_progress(progress: Progress) -> None:
    """Clean and bound what is told of single files, in place. Idempotent."""
    if not progress.files:
        return
    del progress.files[_MOST_FILES:]
    for file in progress.files:
        if _is_bounded(file):
            # Honest fetchers say so many times a second that writing what is there already would be felt.
            continue
        file.path = shown_path(file.path)
        file.bytes_total = max(0, min(file.bytes_total, _MOST_BYTES))
        file.bytes_done = max(0, min(file.bytes_done, file.bytes_total))
        file.bytes_per_second = max(0, min(file.bytes_per_second, _MOST_BYTES_PER_SECOND))
        file.eta_seconds = max(0, min(file.eta_seconds, _LONGEST_SECONDS))


def _is_bounded(file: FileProgress) -> bool:
    return (
        0 <= file.bytes_done <= file.bytes_total <= _MOST_BYTES
        and 0 <= file.bytes_per_second <= _MOST_BYTES_PER_SECOND
        and 0 <= file.eta_seconds <= _LONGEST_SECONDS
        and len(path := file.path) <= PATH_CHARACTERS
        and path.isprintable()
    )

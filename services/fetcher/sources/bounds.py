"""How much one listing may be: files, and the bytes that describe them. Pure.

Time and memory are bounded from outside, by the process that a listing is made in.
"""

from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid, Unavailable

# More is most likely a whole store or a data lake, and no model.
MOST_FILES = 100_000
# Of a hub's listing, with the checksums of a large file; the rest of its answers is small.
_BYTES_PER_FILE = 1 << 10
_LEAST_BYTES = 16 << 20
# Of a store's listing. Azure's says a kilobyte and a half of a blob, whose name may take as much once more.
_BYTES_PER_OBJECT = 4 << 10
_LEAST_STORE_BYTES = 64 << 20


def check_count(source: str, count: int, most_files: int) -> None:
    """Refuse a listing of more files than a model may have. Raises Invalid InvalidUri."""
    if count > most_files:
        raise Invalid(
            Reason.INVALID_URI,
            f"{source} holds more than {most_files} files: name one model in storageUri; the operator can permit more "
            "by listingFiles in the values of the fetcher's chart",
        )


def most_bytes_of(most_files: int) -> int:
    """What the answers of a hub may take together when they describe so many files."""
    return max(_LEAST_BYTES, most_files * _BYTES_PER_FILE)


def most_store_bytes_of(most_files: int) -> int:
    """What the answers of a store may take together when they list so many objects: XML, with all that it knows."""
    return max(_LEAST_STORE_BYTES, most_files * _BYTES_PER_OBJECT)


def too_long(source: str, speaker: str, most_bytes: int) -> Unavailable:
    """The error for answers that are longer than those of any hub."""
    return Unavailable(
        Reason.UNAVAILABLE, f"{source}: {speaker} says more than {most_bytes >> 20} MiB when it is listed"
    )

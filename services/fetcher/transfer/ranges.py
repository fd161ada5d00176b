"""Byte ranges and the headers that name them (RFC 9110, section 14). Must not do I/O."""

import re
from dataclasses import dataclass

_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d{1,18})-(?P<last>\d{1,18})/(?P<total>\d{1,18}|\*)")


@dataclass(frozen=True)
class ContentRange:
    """Which bytes a 206 response carries: [start, end), and the size of the whole object, None when it does not say."""

    start: int
    end: int
    total: int | None


def range_header(start: int, end: int) -> str:
    """Value of a Range header for [start, end), which must not be empty."""
    if not 0 <= start < end:
        raise ValueError(f"[{start}, {end}) is not a range of bytes")
    return f"bytes={start}-{end - 1}"


def parse_content_range(value: str) -> ContentRange | None:
    """Understand a Content-Range header; None for one that is malformed or contradicts itself."""
    match = _CONTENT_RANGE.fullmatch(value.strip())
    if not match:
        return None
    start, end = int(match["first"]), int(match["last"]) + 1
    total = None if match["total"] == "*" else int(match["total"])
    if start >= end or (total is not None and end > total):
        return None
    return ContentRange(start, end, total)


def next_range(offset: int, size: int, range_bytes: int) -> tuple[int, int]:
    """The range of at most range_bytes at offset of a file, ending at a multiple of range_bytes or at the file's end.

    So ranges stay aligned whatever the length was that an earlier run used.
    """
    end = min(size, (offset // range_bytes + 1) * range_bytes)
    if not 0 <= offset < end:
        raise ValueError(f"no range begins at {offset} in {size} bytes")
    return offset, end

"""Where a ZIP archive ends, which tells whether all of it is there: the pickles of PyTorch are such archives. Pure.

https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.14 to 4.3.16: the directory of the members stands
behind them and says where it begins and how long it is; the record that says so comes last, behind it only a comment of
at most 65,535 bytes. So an archive that is cut off has no such record, and no tool opens it. No member is read.
"""

import struct

ARCHIVE_MAGIC = b"PK\x03\x04"
_END = struct.Struct("<4s8xIIH")
_END_MAGIC = b"PK\x05\x06"
# The record of archives above 4 GiB, and what says where it is, stand between directory and end.
_LARGE_END = struct.Struct("<4s36xQQ20x")
_LARGE_END_MAGIC = b"PK\x06\x06"
_LARGE = 0xFFFFFFFF
# How many of the last bytes may hold the record's beginning.
SEARCHED_BYTES = _END.size + 0xFFFF
# Nobody writes comments behind weights.
_MOST_SENT = 256


def ending_of(tail: bytes) -> bytes:
    """What is_complete needs of the last SEARCHED_BYTES of an archive, or of all if it is shorter; empty for no end."""
    at = tail.rfind(_END_MAGIC)
    return tail[max(0, at - _LARGE_END.size) :][:_MOST_SENT] if at >= 0 else b""


def is_complete(size_bytes: int, ending: bytes) -> bool | None:
    """Whether an archive of this size has all its bytes; None for one that says nothing that can be checked."""
    at = ending.rfind(_END_MAGIC)
    if at < 0:
        return False
    if len(ending) - at < _END.size:
        return None
    _, length, start, comment = _END.unpack_from(ending, at)
    if comment != len(ending) - at - _END.size:
        return None
    directory_end = size_bytes - (len(ending) - at)
    large = at - _LARGE_END.size
    if large >= 0 and ending.startswith(_LARGE_END_MAGIC, large):
        _, large_length, large_start = _LARGE_END.unpack_from(ending, large)
        directory_end -= _LARGE_END.size
        if _LARGE in (length, start):
            length, start = large_length, large_start
    return True if start + length == directory_end else None

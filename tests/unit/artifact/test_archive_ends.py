"""Whether an archive has all its bytes, by its last ones: archives of Python's own library, whole and cut."""

import io
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.artifact.archive_ends import SEARCHED_BYTES, ending_of, is_complete


def archive(comment: bytes = b"", size: int = 1000) -> bytes:
    """As PyTorch writes it: members stored as they are, and no comment."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as members:
        for name in ("archive/data.pkl", "archive/data/0"):
            members.writestr(name, b"w" * size)
        members.comment = comment
    return written.getvalue()


def large_archive() -> bytes:
    """The same with the record of archives above 4 GiB, which Python writes for those alone."""
    plain = archive()
    count, length, start = struct.unpack_from("<HII", plain, len(plain) - 12)
    end = len(plain) - 22
    record = struct.pack("<4sQ4xII4QQ", b"PK\x06\x06", 44, 0, 0, count, count, length, start, 0)[:56]
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    return (
        plain[:end]
        + record
        + locator
        + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, *[2**32 - 1] * 2, 0)
    )


def judged(data: bytes) -> bool | None:
    return is_complete(len(data), ending_of(data[8:][-SEARCHED_BYTES:]))


@pytest.mark.parametrize("data", [archive(), archive(b"a word"), archive(size=200_000), large_archive()])
def test_an_archive_is_complete_by_what_its_end_says(data: bytes) -> None:
    assert judged(data) is True


@pytest.mark.parametrize("data", [archive(), large_archive()])
def test_no_archive_that_is_cut_off_is_complete(data: bytes) -> None:
    assert {judged(data[:size]) for size in range(8, len(data) - 22)} == {False}
    assert True not in {judged(data[:size]) for size in range(len(data) - 22, len(data))}


def test_an_archive_of_which_a_part_in_the_middle_is_missing_is_not_called_complete() -> None:
    data = archive()
    assert judged(data[:500] + data[600:]) is None


def test_a_comment_that_is_longer_than_what_is_sent_proves_nothing() -> None:
    assert judged(archive(b"c" * 60_000)) is None


@given(st.binary(max_size=300), st.integers(0, 1 << 50))
def test_any_bytes_are_judged(ending: bytes, size: int) -> None:
    assert is_complete(size, ending) in (True, False, None)
    assert is_complete(size, ending_of(b"PK\x05\x06" + ending)) in (True, False, None)

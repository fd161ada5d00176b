"""Ranges, retries, rates and the journal: the arithmetic of a transfer."""

import itertools
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.fetcher.store.journal import Journal, parse_records
from services.fetcher.transfer.addresses import AddressError, Endpoint, split_url
from services.fetcher.transfer.limits import Limits, limits_for
from services.fetcher.transfer.progress import FileMeters, FileProgress, OpenFile, RateMeter, remaining_seconds
from services.fetcher.transfer.ranges import ContentRange, next_range, parse_content_range, range_header
from services.fetcher.transfer.retry import asked_pause_seconds, backoff_seconds

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@given(st.integers(1, 10**6), st.integers(5000, 10**6), st.integers(0, 10**6))
def test_ranges_cover_a_file_without_gap_or_overlap_from_any_offset(size: int, step: int, offset: int) -> None:
    position = offset = offset % size
    while position < size:
        start, end = next_range(position, size, step)
        assert start == position < end <= size
        assert end - start <= step
        assert end == size or end % step == 0
        position = end
    assert position == size


@pytest.mark.parametrize(("offset", "size"), [(5, 5), (6, 5), (-1, 5), (0, 0)])
def test_there_is_no_range_beyond_a_file(offset: int, size: int) -> None:
    with pytest.raises(ValueError, match="no range"):
        next_range(offset, size, 4096)


@given(st.integers(0, 10**15), st.integers(1, 10**9), st.integers(0, 10**9))
def test_a_content_range_says_what_it_said(start: int, length: int, rest: int) -> None:
    assert range_header(start, start + length) == f"bytes={start}-{start + length - 1}"
    value = f"bytes {start}-{start + length - 1}/{start + length + rest}"
    assert parse_content_range(value) == ContentRange(start, start + length, start + length + rest)
    assert parse_content_range(f"bytes {start}-{start + length - 1}/*") == ContentRange(start, start + length, None)


@pytest.mark.parametrize(
    "value",
    ["", "bytes", "bytes */5", "bytes 5-4/9", "bytes 0-9/9", "bytes -1-4/9", "items 0-1/2", "bytes 0-1/2, 3-4/9"],
)
def test_a_content_range_that_makes_no_sense_is_none(value: str) -> None:
    assert parse_content_range(value) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "Tue, 01 Jan 2030 00:01:00 GMT"}, 60.0),
        ({"retry-after": "Mon, 01 Jan 2029 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"ratelimit": '"api";r=0;t=55'}, 55.0),
        ({"ratelimit": '"api";r=3;t=55'}, None),
        ({"retry-after": "Mon, 01 Jan 2024 00:00:05 GMT", "date": "Mon, 01 Jan 2024 00:00:00 GMT"}, 5.0),
        ({"retry-after": "Mon, 01 Jan 2040 00:00:05 GMT", "date": "Sun, 01 Jan 2040 00:00:00 GMT"}, 5.0),
        ({"retry-after": "Tue, 01 Jan 2030 00:01:00 GMT", "date": "yesterday"}, 60.0),
        ({"retry-after": "Tue, 01 Jan 2069 00:00:00 GMT"}, 86_400.0),
        ({"retry-after": "99999999999"}, 86_400.0),
        ({"retry-after": "7", "ratelimit": '"api";r=0;t=55'}, 7.0),
    ],
)
def test_an_origin_says_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_pause_seconds(headers, NOW) == seconds


def test_backoff_doubles_up_to_its_cap_and_jitters_down_to_nothing() -> None:
    assert [backoff_seconds(attempt, 1, 5, 1.0) for attempt in (1, 2, 3, 4, 99)] == [1, 2, 4, 5, 5]
    assert backoff_seconds(3, 1, 5, 0.0) == 0


def test_a_rate_is_the_mean_of_the_last_seconds() -> None:
    meter = RateMeter(0.0)
    assert meter.sample(0.0, 0) == 0
    assert meter.sample(2.0, 200) == 100
    assert [meter.sample(float(second), 200) for second in (10, 13, 25)][-1] == 0
    assert meter.sample(26.0, 50) == 0


def test_a_file_is_measured_by_what_the_origin_sent_and_forgotten_once_it_is_there() -> None:
    meters = FileMeters()
    assert meters.measure(0.0, [OpenFile("a", 1000, 400, found=400)]) == (FileProgress("a", 400, 1000, 0, 0),)
    assert meters.measure(2.0, [OpenFile("a", 1000, 600, found=400)]) == (FileProgress("a", 600, 1000, 100, 4),)
    assert meters.measure(3.0, []) == ()
    assert meters.measure(4.0, [OpenFile("a", 1000, 100)]) == (FileProgress("a", 100, 1000, 0, 0),)


def test_of_many_files_on_their_way_the_largest_are_told() -> None:
    files = [OpenFile(f"file-{size}", size, 1) for size in range(10, 90)]
    assert [each.path for each in FileMeters().measure(0.0, files)] == ["file-89", "file-88", "file-87", "file-86"]


def test_remaining_time_is_rounded_up_and_zero_when_unknown() -> None:
    assert (remaining_seconds(101, 100), remaining_seconds(5, 0), remaining_seconds(0, 9)) == (2, 0, 0)


@pytest.mark.parametrize(("processors", "connections"), [(1, 4), (2, 4), (3, 6), (64, 8)])
def test_connections_follow_the_processors(processors: int, connections: int) -> None:
    assert limits_for(processors).connections == connections


@pytest.mark.parametrize("changes", [{"range_bytes": 1000}, {"range_bytes": 0}, {"buffers": 1}])
def test_limits_that_cannot_work_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"range_bytes|buffers"):
        Limits(**changes)


@pytest.mark.parametrize(
    ("url", "endpoint", "target"),
    [
        ("http://hub/a", Endpoint("http", "hub", 80), "/a"),
        ("https://hub:8443/a?b=c%20d", Endpoint("https", "hub", 8443), "/a?b=c%20d"),
        ("https://hub", Endpoint("https", "hub", 443), "/"),
        ("http://[::1]:8080/x", Endpoint("http", "::1", 8080), "/x"),
    ],
)
def test_an_address_is_split(url: str, endpoint: Endpoint, target: str) -> None:
    assert split_url(url) == (endpoint, target)


@pytest.mark.parametrize("url", ["ftp://h/a", "file:///etc/passwd", "http:///a", "http://h:x/a", "http://h/a b", "x"])
def test_an_address_that_cannot_be_asked_is_refused(url: str) -> None:
    with pytest.raises(AddressError):
        split_url(url)


ENTRIES = st.lists(
    st.one_of(
        st.tuples(st.just("verified"), st.integers(0, 3), st.integers(1, 50)),
        st.tuples(st.just("synced"), st.integers(0, 3), st.integers(0, 10**18)),
        st.tuples(st.just("reset"), st.integers(0, 3), st.just(0)),
    ),
    max_size=30,
)


def record(journal: Journal, entries: list[tuple[str, int, int]]) -> None:
    for what, index, value in entries:
        if what == "verified":
            journal.verified(index, value, f"{value:040x}")
        elif what == "synced":
            journal.synced(index, value)
        else:
            journal.reset(index)


@settings(max_examples=40, deadline=None)
@given(entries=ENTRIES, torn=st.integers(0, 100), more=ENTRIES)
def test_a_torn_journal_promises_no_more_than_was_written(
    entries: list[tuple[str, int, int]],
    torn: int,
    more: list[tuple[str, int, int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    journal = Journal(path)
    record(journal, entries)
    journal.close()
    content = path.read_bytes()[: max(path.stat().st_size - torn, 0)]
    path.write_bytes(content)
    whole_lines = content[: content.rfind(b"\n") + 1].decode()
    reopened = Journal(path)
    assert reopened.records == parse_records(whole_lines.splitlines(keepends=True))[0]
    # What is written after a tear is found again: the tear does not swallow it.
    record(reopened, more)
    reopened.close()
    again = Journal(path)
    again.close()
    lines = path.read_text().count("\n")
    assert lines == whole_lines.count("\n") + len(more)
    for state in again.records.values():
        lengths = [length for length, _ in state.prefixes]
        assert lengths == sorted(set(lengths))


def test_what_is_remembered_of_a_journal_does_not_grow_with_the_file() -> None:
    step, count = 2 << 20, 51_200
    lines = (f"0 {number * step} {number:064x}\n" for number in range(1, count + 1))
    prefixes = parse_records(lines)[0][0].prefixes
    assert len(prefixes) <= 256
    assert prefixes[-1] == (count * step, f"{count:064x}"), "nothing verified is given up"
    lengths = [0, *(length for length, _ in prefixes)]
    assert max(later - earlier for earlier, later in itertools.pairwise(lengths)) <= count * step / 32


def test_a_journal_that_holds_something_else_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"\xff\xfe\0 not a journal\n0 65536 abc\n")
    journal = Journal(path)
    journal.close()
    assert journal.records == {}
    assert path.read_bytes() == b""

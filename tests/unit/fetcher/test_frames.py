"""What a process that lists and the resolver say to each other, and what the resolver makes of anything else."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.artifact.completeness import Verdict
from libs.artifact.findings import Finding, Remark
from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, new_manifest
from libs.artifact.reasons import Reason
from libs.chassis.errors import Corrupt, Invalid, Missing, ServiceError, Unavailable
from libs.model.problems import problem_of
from ome.fetch.v1.fetch_pb2 import Resolution
from services.fetcher.listers import frames
from services.fetcher.listers.frames import (
    HEADER,
    FrameError,
    Listed,
    Request,
    read_listed,
    read_request,
    read_resolution,
)
from services.fetcher.sources.admission import Admitted

# Lone surrogates too, which no text of the protocol can hold.
ANYTHING = st.text(st.characters(codec=None, categories=None))


def parts(answer: bytes) -> list[bytes]:
    found = []
    while answer:
        _, length = HEADER.unpack(answer[: HEADER.size])
        found.append(answer[HEADER.size : HEADER.size + length])
        answer = answer[HEADER.size + length :]
    return found


def arrived(answer: bytes) -> Listed:
    first, *others = parts(answer)
    resolution = read_resolution(first)
    return read_listed(resolution, others[0])


def admitted(manifest: Manifest, *warnings: Remark) -> Admitted:
    return Admitted(manifest, warnings, Verdict(None))


@given(ANYTHING, st.dictionaries(ANYTHING, ANYTHING), st.dictionaries(ANYTHING, st.binary()))
def test_a_request_arrives_as_it_was_made(uri: str, parameters: dict[str, str], credentials: dict[str, bytes]) -> None:
    request = Request(uri, parameters, credentials, namespaced=True)
    assert read_request(parts(request.frame())[0]) == request
    assert repr(request) == repr(Request(uri, parameters, {}, namespaced=True))


def test_a_manifest_arrives_as_it_was_listed_with_what_there_is_to_say() -> None:
    manifest = new_manifest("c0ffee", [ManifestFile("a/b.bin", 7, ChecksumAlgorithm.SHA256, "0" * 64)])
    listed = arrived(
        frames.success("hf://o/m", admitted(manifest, Remark(Finding.NO_TOKENIZER, "it has none", ("a",))))
    )
    assert listed.manifest == manifest
    assert [(each.message, list(each.files)) for each in listed.warnings] == [("it has none", ["a"])]


@given(st.lists(st.tuples(ANYTHING, st.lists(ANYTHING, max_size=20)), max_size=50))
def test_whatever_a_listing_has_to_say_is_told_within_bounds(said: list[tuple[str, list[str]]]) -> None:
    remarks = [Remark(Finding.ODD_FILE, message * 50, tuple(files)) for message, files in said]
    listed = arrived(frames.success("hf://o/m", admitted(new_manifest("", []), *remarks)))
    assert len(listed.warnings) <= 30
    assert all(each.message.isprintable() and len(each.message) <= 1000 for each in listed.warnings)
    assert all(name.isprintable() for each in listed.warnings for name in each.files)


def test_what_is_said_of_one_model_leaves_room_for_other_models() -> None:
    remark = Remark(Finding.ODD_FILE, "ü" * 2000, tuple("ü" * 300 for _ in range(20)))
    answer = frames.success("hf://o/m", Admitted(new_manifest("", []), (remark,) * 100, Verdict(None, (remark,) * 100)))
    listed = arrived(answer)
    assert 1 <= len(listed.warnings) < 30
    assert sum(each.ByteSize() for each in listed.warnings) <= 16 << 10
    assert listed.completeness.defects
    assert listed.completeness.ByteSize() <= 17 << 10


def test_a_manifest_that_would_fill_the_store_is_refused() -> None:
    names = [f"{number:05}" + "n" * 240 for number in range(70_000)]
    files = [ManifestFile(name, 1, ChecksumAlgorithm.NONE, "", "v" * 240) for name in names]
    with pytest.raises(Invalid, match="more than 32 MiB"):
        frames.success("hf://o/m", admitted(new_manifest("", files)))


@pytest.mark.parametrize("kind", [Invalid, Missing, Corrupt])
def test_an_error_arrives_with_its_kind_reason_and_sentence(kind: type[ServiceError]) -> None:
    problem = problem_of(kind(Reason.GATED, "ask for access"), "fetcher")
    with pytest.raises(kind, match="ask for access") as raised:
        arrived(frames.failure(Resolution(problem=problem)))
    assert raised.value.reason is Reason.GATED


@given(ANYTHING)
def test_an_error_arrives_whatever_it_says(message: str) -> None:
    with pytest.raises(Unavailable) as raised:
        arrived(frames.failure(Resolution(problem=problem_of(Unavailable(Reason.UNAVAILABLE, message * 100), "it"))))
    assert raised.value.message.isprintable()
    assert len(raised.value.message) <= 1024


@pytest.mark.parametrize(("asked", "kept"), [(7.0, 7.0), (-5.0, 0.0), (1e9, 86_400.0)])
def test_a_pause_that_a_source_asks_for_is_kept_within_a_day(asked: float, kept: float) -> None:
    resolution = Resolution(problem=problem_of(Unavailable(Reason.RATE_LIMITED, "slow down"), "fetcher"))
    resolution.resolved_at.FromMilliseconds(10**12)
    resolution.problem.retry_at.FromMilliseconds(10**12 + int(asked * 1000))
    with pytest.raises(Unavailable) as raised:
        arrived(frames.failure(resolution))
    assert raised.value.retry_after_seconds == kept


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_anything_else_is_no_answer_or_an_error_that_can_be_told(first: bytes, second: bytes) -> None:
    with suppress(FrameError, ServiceError, ValueError):
        read_listed(read_resolution(first), second)

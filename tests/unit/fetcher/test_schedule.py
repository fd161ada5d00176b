"""What is asked for next, and what becomes of pieces that nobody wants any more."""

from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile, new_manifest
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.pieces import FileState, Piece
from services.fetcher.transfer.schedule import Schedule

STEP = 4096


def nothing() -> None:
    return None


def test_a_piece_of_a_file_that_was_started_again_does_not_become_the_one_that_reads_it_whole() -> None:
    file = ManifestFile("model.safetensors", 4 * STEP, ChecksumAlgorithm.NONE, "")
    limits = Limits(connections=1, range_bytes=STEP, buffers=2)
    schedule = Schedule(new_manifest("", [file]), (), limits)
    state = schedule.take(0, False, nothing)
    assert isinstance(state, FileState)
    schedule.prepared(state)
    first = schedule.take(0, False, nothing)
    assert isinstance(first, Piece)
    schedule.answered(state)
    second = schedule.take(0, False, nothing)
    assert isinstance(second, Piece)
    schedule.restart(state, first)

    assert not schedule.read_whole(second)

    schedule.put_back(second)
    again = schedule.take(0, False, nothing)
    assert isinstance(again, Piece)
    assert again.start == 0

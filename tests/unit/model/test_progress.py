"""What a node may tell of single files: a few, with names that fit a line and figures that fit a sum."""

from hypothesis import given
from hypothesis import strategies as st

from libs.model.progress import bound_progress
from ome.fetch.v1.fetch_pb2 import FileProgress, Progress

NUMBERS = st.integers(-(2**63), 2**63 - 1)
FILES = st.builds(
    FileProgress,
    path=st.text(max_size=400),
    bytes_done=NUMBERS,
    bytes_total=NUMBERS,
    bytes_per_second=NUMBERS,
    eta_seconds=NUMBERS,
)


def test_a_progress_without_files_stays_as_it_is() -> None:
    progress = Progress(bytes_done=-1, bytes_total=2**62)
    bound_progress(progress)
    assert progress == Progress(bytes_done=-1, bytes_total=2**62)


@given(st.lists(FILES, max_size=12))
def test_whatever_a_node_says_of_files_is_bounded_once_and_for_all(files: list[FileProgress]) -> None:
    progress = Progress(bytes_done=3, files=files)
    bound_progress(progress)
    assert len(progress.files) == min(len(files), 4)
    assert progress.ByteSize() < 4 << 10
    for file in progress.files:
        assert file.path.isprintable()
        assert 0 <= file.bytes_done <= file.bytes_total <= 10**15
        assert 0 <= file.bytes_per_second <= 10**12
        assert 0 <= file.eta_seconds <= 10**9
    again = Progress()
    again.CopyFrom(progress)
    bound_progress(again)
    assert again == progress

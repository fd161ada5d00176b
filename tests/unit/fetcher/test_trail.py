"""What a fetcher tells of its work, as parts of the trace of a revision on its node."""

import pytest

from libs.artifact.names import trace_key
from libs.artifact.reasons import Reason
from libs.chassis.errors import Missing
from libs.chassis.traces import Attributes
from services.fetcher.model.downloads import Order
from services.fetcher.model.trail import Trail
from services.fetcher.stop import StopFlag, Stopped
from services.fetcher.transfer.progress import Progress

KEY = trace_key("uid", "sha256:1", "node-1")


class Heard:
    """Keeps the parts of traces, and is a clock that goes on by a second each time it is read."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, str, float, float, str]] = []
        self._seconds = 0.0

    def clock(self) -> float:
        self._seconds += 1
        return self._seconds

    def part(self, trace: str, name: str, started: float, ended: float, about: Attributes, failed: str = "") -> None:
        assert about["ome.node"] == "node-1"
        self.parts.append((trace, name, started, ended, failed))

    def whole(self, trace: str, name: str, started: float, ended: float, about: Attributes) -> None:
        raise AssertionError("a fetcher sees no end of a trace")


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def trail(heard: Heard) -> Trail:
    return Trail(heard, "node-1", heard.clock)


def order() -> Order:
    return Order("/models", "sha256:1", (), "uid", 1, "hf://a/b", "c0ffee", (), False, 10, 0, ())


async def test_a_transfer_is_told_of_in_two_parts(heard: Heard, trail: Trail) -> None:
    async def fetch(_order: Order, _stop: StopFlag, note: object) -> None:
        assert callable(note)
        for done in (5, 10, 10):
            note(Progress(done, 10, 0, 1, 0, 0))

    seen: list[int] = []
    await trail.followed(fetch)(order(), StopFlag(), lambda progress: seen.append(progress.bytes_done))
    assert heard.parts == [(KEY, "fetcher.transfer", 1.0, 2.0, ""), (KEY, "fetcher.verify", 2.0, 3.0, "")]
    assert seen == [5, 10, 10]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Missing(Reason.NOT_FOUND, "it is gone"), "NotFound: it is gone"),
        (Stopped(), "it was stopped"),
        (KeyError("a defect"), "it was given up"),
    ],
)
async def test_a_transfer_that_fails_is_told_of_and_still_fails(
    heard: Heard, trail: Trail, error: Exception, told: str
) -> None:
    async def fetch(*_arguments: object) -> None:
        raise error

    with pytest.raises(type(error)):
        await trail.followed(fetch)(order(), StopFlag(), lambda progress: None)
    assert heard.parts == [(KEY, "fetcher.transfer", 1.0, 2.0, told)]


def test_other_work_is_told_of_where_the_files_are_known(heard: Heard, trail: Trail) -> None:
    with trail.part("fetcher.publish", "uid", "sha256:1"):
        pass
    with trail.part("fetcher.parse", "uid", ""):
        pass
    with pytest.raises(Missing), trail.part("fetcher.parse", "uid", "sha256:1"):
        raise Missing(Reason.NOT_FOUND, "it is gone")
    trail.received("uid", "sha256:1", 7, 0.5)
    assert [(name, failed) for _, name, _, _, failed in heard.parts] == [
        ("fetcher.publish", ""),
        ("fetcher.parse", "NotFound: it is gone"),
        ("fetcher.receive", ""),
    ]

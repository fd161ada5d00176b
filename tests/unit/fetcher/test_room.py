"""When what did not fit on the disk is attempted again."""

import asyncio

import pytest

from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.model.problems import problem_of
from services.fetcher.model.observed import Setback
from services.fetcher.model.room import Room

NOW = 1000.0
FULL = Unavailable(Reason.INSUFFICIENT_DISK, "/models has 1 GiB free; the model needs 2 GiB")
AWAY = Unavailable(Reason.UNAVAILABLE, "the source is away")


def setback(error: Exception, retry_at: float | None = NOW + 600) -> Setback:
    return Setback(1, problem_of(error, "fetcher"), retry_at)


def test_only_a_model_that_lacked_room_is_due_when_room_is_freed() -> None:
    room = Room(lambda: NOW)
    due = room.due(setback(FULL))
    assert due is not None
    assert due.retry_at == NOW
    assert room.due(setback(AWAY)) is None
    assert room.due(setback(FULL, retry_at=None)) is None, "only another assignment helps it"
    assert room.due(None) is None


def test_room_that_was_freed_during_an_attempt_brings_the_next_one_soon() -> None:
    room = Room(lambda: NOW)
    assert room.delay_seconds(FULL, began=NOW - 1, delay=600, soon=5) == 600
    room.free()
    assert room.delay_seconds(FULL, began=NOW - 1, delay=600, soon=5) == 5
    assert room.delay_seconds(FULL, began=NOW + 1, delay=600, soon=5) == 600, "it was freed before"
    assert room.delay_seconds(AWAY, began=NOW - 1, delay=600, soon=5) == 600


@pytest.mark.parametrize(("error", "frees"), [(AWAY, True), (FULL, False)])
async def test_a_failed_download_gives_back_what_it_was_promised(error: Unavailable, frees: bool) -> None:
    room = Room()
    room.give_back(error)
    waiting = asyncio.create_task(room.freed())
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert bool(done) is frees
    waiting.cancel()

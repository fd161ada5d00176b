"""The board costs nothing without anybody who looks, and is shared by all who do."""

import asyncio

import pytest

from ome.model.v1.model_pb2 import MODEL_KIND_CLUSTER_BASE_MODEL, NODE_PHASE_READY, ModelRef
from ome.status.v1.status_pb2 import Model, NodeStatus
from services.status.page.board import BEAT_SECONDS, Board, pause_seconds
from services.status.page.cells import LEFTOVER
from tests.support.simulated_page import SimulatedFleet


async def test_rows_and_the_task_that_makes_them_exist_only_while_somebody_looks() -> None:
    fleet = SimulatedFleet(4, 6)
    board = Board(fleet.catalog, fleet)
    before = asyncio.all_tasks()
    async with board.watched():
        assert (len(board.rows), len(board.columns)) == (4, 6)
        async with board.watched():
            assert len(asyncio.all_tasks() - before) == 1
        assert len(board.rows) == 4
    async with asyncio.timeout(5):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0)
    assert not board.rows
    assert not board.columns
    # And it can be looked at again.
    async with board.watched():
        assert len(board.rows) == 4


async def test_all_who_look_share_rows_and_only_those_of_changed_models_are_made_anew() -> None:
    fleet = SimulatedFleet(4, 6)
    board = Board(fleet.catalog, fleet)
    async with board.watched(), asyncio.timeout(10):
        before = board.rows
        [changed] = [model.ref.uid for model in fleet.catalog.models()][:1]
        fleet.catalog.touch(changed)
        await board.next_beat()
        assert {uid for uid, each in board.rows.items() if each is not before[uid]} == {changed}


async def test_a_node_that_comes_with_a_model_gets_its_column_and_every_row_its_cell() -> None:
    fleet = SimulatedFleet(2, 3)
    board = Board(fleet.catalog, fleet)
    async with board.watched(), asyncio.timeout(10):
        uid = fleet.catalog.models()[0].ref.uid
        ref = ModelRef(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name="new", uid=uid)
        fleet.catalog.put(Model(ref=ref, nodes=[NodeStatus(node="another", phase=NODE_PHASE_READY)]))
        await board.next_beat()
        place = board.columns["another"]
        assert len(board.columns) == 4
        assert {len(each.cells) for each in board.rows.values()} == {4}
        assert board.rows[uid].cells[place] == LEFTOVER


@pytest.mark.parametrize(("spent", "viewers"), [(0.05, 1), (0.05, 32), (0.05, 200)])
def test_all_who_look_together_take_no_more_than_a_part_of_the_time(spent: float, viewers: int) -> None:
    beat = BEAT_SECONDS + pause_seconds(spent, viewers)
    assert viewers * spent / beat <= 0.25


def test_few_who_look_at_little_wait_for_the_beat_alone() -> None:
    assert pause_seconds(0.002, 20) == 0.0

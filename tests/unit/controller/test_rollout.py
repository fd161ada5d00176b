"""Which nodes may take a new revision now: tables of fleets, and the property that a failing one never spreads."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ome.fetch.v1.fetch_pb2 import (
    ROLLOUT_STAGE_CANARY,
    ROLLOUT_STAGE_DIVERGED,
    ROLLOUT_STAGE_HALTED,
    ROLLOUT_STAGE_PAUSED,
    ROLLOUT_STAGE_SPREADING,
    ROLLOUT_STAGE_UNSPECIFIED,
)
from ome.model.v1.model_pb2 import (
    REASON_ARTIFACT_DAMAGED,
    REASON_CHECKSUM_MISMATCH,
    REASON_DOWNLOADING,
    REASON_INCOMPLETE,
    REASON_NOT_FOUND,
)
from services.controller.rollout import Decision, Standing, Strategy, keep_lost, roll_out, strategy_of

CAREFUL = Strategy(most_nodes=2, canary=1, pause_seconds=60)


def old(*names: str) -> list[Standing]:
    """Nodes that are ready with the earlier revision."""
    return [Standing(name, earlier=True, ready=True) for name in names]


def new(*names: str) -> list[Standing]:
    """Nodes that are ready with the new revision."""
    return [Standing(name, told=True, ready=True) for name in names]


def fetching(*names: str) -> list[Standing]:
    """Nodes that fetch the new revision."""
    return [Standing(name, told=True, reason=REASON_DOWNLOADING) for name in names]


def failing(*names: str) -> list[Standing]:
    """Nodes on which the new revision fails."""
    return [Standing(name, told=True, reason=REASON_CHECKSUM_MISMATCH) for name in names]


def evicted(standing: Standing) -> Standing:
    """The node has given up its copy."""
    return replace(standing, evicted=True)


def lost(standing: Standing) -> Standing:
    """The node has not been heard of for long."""
    return replace(standing, available=False, lost=True)


def decide(standings: list[Standing], strategy: Strategy = CAREFUL, tried: float | None = None) -> Decision:
    return roll_out(standings, strategy, tried, "revision b", "revision a")


CASES = {
    "the first node goes first": (old("a", "b", "c"), None, {"b", "c"}, ROLLOUT_STAGE_CANARY),
    "the others wait for it": (fetching("a") + old("b", "c"), None, {"b", "c"}, ROLLOUT_STAGE_CANARY),
    "and get nothing of what fails there": (failing("a") + old("b", "c"), None, {"b", "c"}, ROLLOUT_STAGE_HALTED),
    "and wait once more when it is ready": (new("a") + old("b", "c"), None, {"b", "c"}, ROLLOUT_STAGE_PAUSED),
    "until the pause is over": (new("a") + old("b", "c", "d"), 60.0, {"d"}, ROLLOUT_STAGE_SPREADING),
    "no more than two at a time": (
        new("a") + fetching("b", "c") + old("d"),
        90.0,
        {"d"},
        ROLLOUT_STAGE_SPREADING,
    ),
    "one that fails takes a place": (
        new("a") + failing("b") + fetching("c") + old("d"),
        90.0,
        {"d"},
        ROLLOUT_STAGE_HALTED,
    ),
    "the last ones follow": (new("a", "b") + old("c", "d"), 90.0, set(), ROLLOUT_STAGE_UNSPECIFIED),
    "a node that holds nothing waits too": (
        [*failing("a"), *old("b"), Standing("c")],
        None,
        {"b", "c"},
        ROLLOUT_STAGE_HALTED,
    ),
    "a node that takes nothing new is not the first": (
        [replace(old("a")[0], available=False), *old("b", "c")],
        None,
        {"a", "c"},
        ROLLOUT_STAGE_CANARY,
    ),
    "what fails there does not come to a node either that mends its earlier copy": (
        [*failing("a"), Standing("b", earlier=True, reason=REASON_ARTIFACT_DAMAGED)],
        None,
        {"b"},
        ROLLOUT_STAGE_HALTED,
    ),
    "a node that has given up its copy tries nothing": (
        [evicted(*old("a")), *old("b", "c")],
        None,
        {"a", "c"},
        ROLLOUT_STAGE_CANARY,
    ),
    "and has tried nothing": ([evicted(*new("a")), *old("b", "c")], None, {"c"}, ROLLOUT_STAGE_CANARY),
    "unless it had": ([evicted(*new("a")), *old("b", "c", "d")], 60.0, {"d"}, ROLLOUT_STAGE_SPREADING),
    "and has nothing to lose": ([evicted(*old("a")), evicted(*old("b"))], None, set(), ROLLOUT_STAGE_UNSPECIFIED),
    "nobody waits for a first node that is gone": (
        [lost(*fetching("a")), *old("b", "c")],
        None,
        {"c"},
        ROLLOUT_STAGE_CANARY,
    ),
    "nor gives its place away twice": (
        [lost(*fetching("a")), lost(*fetching("b")), *old("c", "d")],
        None,
        {"c", "d"},
        ROLLOUT_STAGE_CANARY,
    ),
    "nor at all if it had failed": (
        [lost(*failing("a")), *old("b", "c")],
        None,
        {"b", "c"},
        ROLLOUT_STAGE_HALTED,
    ),
    "a node that is gone among the others holds up nobody": (
        [*new("a"), lost(*fetching("b")), *fetching("c"), *old("d", "e")],
        90.0,
        {"e"},
        ROLLOUT_STAGE_SPREADING,
    ),
    "a model that is nowhere ready goes everywhere": (
        [Standing("a"), Standing("b", earlier=True)],
        None,
        set(),
        ROLLOUT_STAGE_UNSPECIFIED,
    ),
}


@pytest.mark.parametrize(("standings", "tried", "staying", "stage"), CASES.values(), ids=CASES.keys())
def test_nodes_take_a_new_revision_in_their_turn(
    standings: list[Standing], tried: float | None, staying: set[str], stage: int
) -> None:
    decision = decide(standings, tried=tried)
    assert (set(decision.staying), int(decision.stage)) == (staying, stage)


def test_without_a_strategy_all_take_it_at_once() -> None:
    assert decide(old("a", "b"), Strategy()) == Decision()
    assert strategy_of({"storageUri": "hf://a/b"}) == Strategy()
    assert strategy_of({"rollout": {"maxConcurrentNodes": 2, "canary": 1, "pauseSeconds": 60}}) == CAREFUL


def test_a_pause_says_when_to_look_again_and_begins_when_the_first_nodes_are_ready() -> None:
    begun = decide(new("a") + old("b"))
    assert (begun.tried, begun.look_again_seconds) == (True, 60)
    assert decide(new("a") + old("b"), tried=45.0).look_again_seconds == 15
    assert not decide(fetching("a") + old("b")).tried


def test_a_revision_that_fails_is_told_of_with_nodes_reasons_and_what_stays() -> None:
    told = decide(failing("n1") + old("n2", "n3")).message
    assert told == (
        "revision b fails on n1 (ChecksumMismatch), so 2 nodes keep revision a: "
        "mend the source or go back to an earlier revision"
    )


def test_nodes_keep_what_the_source_has_lost_but_for_those_that_miss_files_of_it() -> None:
    missing = Standing("n3", earlier=True, reason=REASON_NOT_FOUND)
    decision = keep_lost([*old("n1", "n2"), missing, *new("n4")], "revision b", "revision a")
    assert (set(decision.staying), decision.stage) == ({"n1", "n2"}, ROLLOUT_STAGE_DIVERGED)
    assert decision.message.startswith("the source no longer has revision a, which 2 nodes hold and keep; ")
    incomplete = Standing("n5", earlier=True, reason=REASON_INCOMPLETE)
    assert keep_lost([missing, incomplete], "revision b", "revision a") == Decision()


@given(st.integers(2, 12), st.integers(1, 4), st.integers(0, 4), st.sets(st.integers(0, 11)))
def test_no_more_nodes_than_permitted_ever_hold_a_revision_that_fails_everywhere(
    count: int, canary: int, most: int, broken: set[int]
) -> None:
    """Nodes in broken fail, the others become ready; each step tells nodes and lets them finish."""
    standings = {f"n{number:02}": Standing(f"n{number:02}", earlier=True, ready=True) for number in range(count)}
    bad = {f"n{number:02}" for number in broken}
    for _ in range(count + 2):
        decision = decide(list(standings.values()), Strategy(most, canary))
        told = standings.keys() - decision.staying
        assert len({node for node in told if not (standings[node].told and standings[node].ready)}) <= (most or count)
        if decision.stage == ROLLOUT_STAGE_CANARY:
            assert len(told) <= canary
        for node in told:
            ready = node not in bad
            reason = 0 if ready else REASON_CHECKSUM_MISMATCH
            standings[node] = Standing(node, told=True, ready=ready, reason=reason)  # type: ignore[arg-type]
    told = {node for node, each in standings.items() if each.told}
    assert any(each.told for each in standings.values())
    if not told & bad:
        assert told == standings.keys()
    if bad >= set(sorted(standings)[: min(canary, count)]):
        assert len(told) <= canary

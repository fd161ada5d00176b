"""Planning against a model of a disk: whatever is on it, plans end, and end where the controller wants."""

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from ome.fetch.v1.fetch_pb2 import GOAL_ABSENT, GOAL_HOLD, Assignment
from ome.model.v1.model_pb2 import NODE_PHASE_DELETED, NODE_PHASE_READY, Artifact
from ome.parser.v1.parser_pb2 import ModelFacts
from services.fetcher.model.observed import Copy, Desired, Observed, Parsing, PublishedName, Transfer, TransferPhase
from services.fetcher.model.planning import (
    Abandon,
    Action,
    Parse,
    Prioritize,
    Publish,
    Reserve,
    StartTransfer,
    StopTransfer,
    Unpublish,
    describe,
    plan,
)

ROOTS = ("/models", "/raid/models")
DIGESTS = tuple("sha256:" + digit * 64 for digit in "012")
# A plan that is not over after so many rounds never is: each round moves at least one thing.
MOST_ROUNDS = 12


@dataclass
class World:
    """What one model has on a node: names, copies by root and digest, and at most one transfer."""

    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    copies: set[tuple[str, str]] = field(default_factory=set)
    damaged: set[tuple[str, str]] = field(default_factory=set)
    fetched: set[tuple[str, str]] = field(default_factory=set)
    transfer: Transfer | None = None
    parsed: str = ""

    def observe(self, desired: Desired, root: str, path: str) -> Observed:
        names = tuple(
            PublishedName(each, name, Artifact(digest=digest), (each, digest) in self.copies)
            for each, (name, digest) in sorted(self.names.items())
        )
        observed = Observed(publications=names, transfer=self.transfer, leftovers=tuple(sorted(self.fetched)))
        if desired.assignment.goal == GOAL_ABSENT:
            return observed
        key = (root, desired.assignment.artifact.digest)
        return replace(
            observed,
            root=root,
            path=path,
            copy=Copy(key in self.copies, ("file",) if key in self.damaged else ()),
            leftovers=tuple(each for each in observed.leftovers if each != key),
            parsing=Parsing(facts=ModelFacts()) if self.parsed == key[1] else None,
        )

    def apply(self, action: Action, digest: str) -> None:
        match action:
            case StartTransfer(root, wanted, _):
                assert self.transfer is None, "a second transfer was started beside the first"
                self.transfer = Transfer(root, wanted, TransferPhase.RUNNING)
                self.fetched.add((root, wanted))
            case Prioritize(priority):
                assert self.transfer is not None
                self.transfer = replace(self.transfer, priority=priority)
            case StopTransfer():
                assert self.transfer is not None
                self.transfer = replace(self.transfer, phase=TransferPhase.STOPPING)
            case Publish(root, path, wanted):
                assert (root, wanted) in self.copies - self.damaged, "something that is not whole was published"
                self.names[root] = (path, wanted)
            case Unpublish(root) | Reserve(root):
                del self.names[root]
            case Abandon(root, wanted):
                assert (root, wanted) not in {(at, digest) for at, (_, digest) in self.names.items()}
                self.fetched.discard((root, wanted))
                self.copies.discard((root, wanted))
            case Parse():
                self.parsed = digest
            case _:
                raise AssertionError(f"unexpected {action}")

    def settle(self) -> None:
        """A transfer comes to its end between two looks."""
        if self.transfer is None:
            return
        if self.transfer.phase is not TransferPhase.STOPPING:
            key = (self.transfer.root, self.transfer.digest)
            self.copies.add(key)
            self.damaged.discard(key)
        self.transfer = None


roots, digests = st.sampled_from(ROOTS), st.sampled_from(DIGESTS)
keys = st.tuples(roots, digests)
names = st.dictionaries(roots, st.tuples(st.sampled_from(["/models/a", "/models/b"]), digests))
transfers = st.builds(Transfer, roots, digests, st.sampled_from(TransferPhase))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    transfer = draw(st.none() | transfers)
    copies = draw(st.sets(keys))
    published = draw(names)
    fetched = {(transfer.root, transfer.digest)} if transfer else set()
    # A publication owns its copy: only unpublishing removes it.
    fetched -= {(root, digest) for root, (_, digest) in published.items()}
    return World(published, copies, draw(st.sets(keys)) & copies, fetched, transfer)


@st.composite
def desires(draw: st.DrawFn) -> Desired:
    assignment = Assignment(goal=draw(st.sampled_from([GOAL_HOLD, GOAL_ABSENT])))
    assignment.artifact.digest = draw(digests)
    assignment.skip_parsing = draw(st.booleans())
    assignment.priority = draw(st.integers(0, 1))
    assignment.reserve = assignment.goal == GOAL_ABSENT and draw(st.booleans())
    return Desired(draw(st.integers(1, 3)), assignment)


def converge(world: World, desired: Desired, root: str) -> Observed:
    for _ in range(MOST_ROUNDS):
        observed = world.observe(desired, root, f"{root}/a")
        actions = plan(desired, observed, 0.0)
        if not actions and world.transfer is None:
            return observed
        for action in actions:
            world.apply(action, desired.assignment.artifact.digest)
        world.settle()
    raise AssertionError(f"no end in sight: {world}")


@given(worlds(), desires(), roots)
def test_plans_end_where_the_controller_wants(world: World, desired: Desired, root: str) -> None:
    observed = converge(world, desired, root)
    state = describe(desired, observed)

    if desired.assignment.goal == GOAL_ABSENT:
        assert state.phase == NODE_PHASE_DELETED
        assert not world.names
    else:
        assert state.phase == NODE_PHASE_READY
        assert world.names == {root: (f"{root}/a", desired.assignment.artifact.digest)}


@given(worlds(), desires(), desires(), roots, roots, st.integers(0, 6))
def test_plans_end_well_after_any_prefix_of_another_plan(
    world: World, first: Desired, second: Desired, first_root: str, second_root: str, applied: int
) -> None:
    actions = plan(first, world.observe(first, first_root, f"{first_root}/a"), 0.0)
    for action in actions[:applied]:
        world.apply(action, first.assignment.artifact.digest)

    test_state = describe(second, converge(world, second, second_root))

    assert test_state.phase in (NODE_PHASE_READY, NODE_PHASE_DELETED)


@st.composite
def readable_worlds(draw: st.DrawFn) -> World:
    """Worlds in which at least one name leads to a copy that is whole."""
    world, (root, digest) = draw(worlds()), draw(keys)
    world.names[root] = (draw(st.sampled_from(["/models/a", "/models/b"])), digest)
    world.copies.add((root, digest))
    world.damaged.discard((root, digest))
    world.fetched.discard((root, digest))
    return world


@given(readable_worlds(), desires(), roots)
def test_readers_of_a_held_model_see_it_until_another_takes_its_place(
    world: World, desired: Desired, root: str
) -> None:
    """Of the names that a model has, one stays readable through a change of revision or root."""
    desired.assignment.goal = GOAL_HOLD
    assert any((at, digest) in world.copies - world.damaged for at, (_, digest) in world.names.items())
    for _ in range(MOST_ROUNDS):
        actions = plan(desired, world.observe(desired, root, f"{root}/a"), 0.0)
        for action in actions:
            world.apply(action, desired.assignment.artifact.digest)
            assert any((at, digest) in world.copies for at, (_, digest) in world.names.items())
        world.settle()

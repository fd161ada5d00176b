"""One model through edits, revisions, budgets, nodes, Pods, crashes and late messages, in any order.

What is told at each step, and how it ends.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.artifact.specification import RESERVE_LABEL, REVISION_ANNOTATION
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller import planning
from services.controller.budgets import Budgets, charge_of
from services.controller.planning import NodeView, Observed, plan
from services.controller.specification import read_model, source_of
from tests.unit.controller.test_planning import NOW, RULES, apply, item, observe

A, B = (
    model_pb2.Artifact(digest="sha256:" + letter * 64, source_revision=letter * 40, bytes=5, files=1) for letter in "ab"
)
NODES = ("n1", "n2", "n3")
WIDE, TIGHT = 1000, 5
EVENTS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["leaves", "comes", "dies", "is back", "answers", "speaks late"]), st.sampled_from(NODES)
        ),
        st.tuples(
            st.sampled_from(
                [
                    *("delete", "reserve", "give free", "revise", "go back", "go on", "keep more", "keep fewer"),
                    *("tighten", "widen", "pods come", "pods go", "lose what is told", "lose the plan", "crash"),
                ]
            ),
            st.just(""),
        ),
    ),
    max_size=14,
)


@dataclass
class World:
    """What people and machines have done, and what the controller knows of it."""

    observed: Observed
    selected: set[str] = field(default_factory=lambda: set(NODES))
    alive: set[str] = field(default_factory=lambda: set(NODES))
    artifact: model_pb2.Artifact = field(default_factory=lambda: A)
    deleted: bool = False
    reserved: bool = False
    goes_back: bool = False
    kept: int = 0
    limit: int = WIDE

    def happen(self, event: str, node: str) -> None:
        """Something happens."""
        match event:
            case "leaves":
                self.selected.discard(node)
            case "comes":
                self.selected.add(node)
            case "dies":
                self.alive.discard(node)
            case "is back":
                self.alive.add(node)
            case "answers":
                self.answer([node])
            case "speaks late":
                self.speak_late(node)
            case "delete":
                self.deleted = True
            case "reserve" | "give free":
                self.reserved = event == "reserve"
            case "revise":
                self.artifact = B
            case "go back" | "go on":
                self.goes_back = event == "go back"
            case "keep more" | "keep fewer":
                self.kept = 2 if event == "keep more" else 0
            case "tighten" | "widen":
                self.limit = TIGHT if event == "tighten" else WIDE
            case "pods come" | "pods go":
                use = fetch_pb2.ModelUse(nodes=1, pods=1) if event == "pods come" else None
                self.observed = replace(self.observed, use=use)
            case "lose what is told":
                self.observed = replace(self.observed, held={})
            case "lose the plan":
                self.observed = replace(self.observed, plan=None)
        self.tell()

    def tell(self) -> None:
        """Have the controller know of all this."""
        known = self.observed
        nodes = {
            name: NodeView(name, {"gpu": "yes"} if name in self.selected else {}, True, None) for name in self.alive
        }
        if known.model is not None:
            metadata: dict[str, object] = {"labels": {RESERVE_LABEL: "true"} if self.reserved else {}}
            metadata["annotations"] = {REVISION_ANNOTATION: "aaaaaaaa"} if self.goes_back else {}
            metadata |= {"deletionTimestamp": "2026-11-28T09:00:00Z"} if self.deleted else {}
            storage = {"storageUri": "hf://org/model", "nodeSelector": {"gpu": "yes"}, "revisionPolicy": "Follow"}
            manifest = item({**storage, "revisionHistoryLimit": self.kept}, metadata=metadata)
            source = source_of(read_model(manifest), "ome")
            assert source is not None
            entries = [
                {"digest": one.digest, "sourceRevision": one.source_revision, "bytes": one.bytes, "files": one.files}
                for one in (B, A)
            ]
            history = [{**entry, "source": source.key} for entry in entries]
            status = {"observedGeneration": 1, "artifact": entries[1], "history": history}
            model = read_model({**manifest, "status": status} if known.plan is None else manifest)
            listed = fetch_pb2.Resolution(attempt=1 if self.artifact is A else 2, artifact=self.artifact)
            known = replace(known, model=model, resolutions={} if known.model.deleting else {source.key: listed})
        budgets = Budgets({"*": self.limit})
        for name, each in known.held.items():
            budgets.charge("u", "team", name, charge_of(each.assignment.artifact))
        self.observed = replace(known, nodes=nodes, budget=budgets.account("u", "team", "2026"))

    def answer(self, nodes: Iterable[str]) -> None:
        """Nodes do what they are told, and say so."""
        states = dict(self.observed.states)
        for node in set(nodes) & self.alive & self.observed.held.keys():
            held = self.observed.held[node]
            goal, told = held.assignment.goal, held.assignment
            phase = model_pb2.NODE_PHASE_DELETED if goal == fetch_pb2.GOAL_ABSENT else model_pb2.NODE_PHASE_READY
            states[node] = fetch_pb2.NodeModelState(
                phase=phase,
                assignment_revision=held.revision,
                content_digest=told.content_digest,
                artifact=told.artifact if phase == model_pb2.NODE_PHASE_READY else None,
            )
        self.observed = replace(self.observed, states=states)

    def speak_late(self, node: str) -> None:
        """What a node said of an earlier assignment comes only now: that it has nothing."""
        held = self.observed.held.get(node)
        if held:
            late = fetch_pb2.NodeModelState(phase=model_pb2.NODE_PHASE_DELETED, assignment_revision=held.revision - 1)
            self.observed = replace(self.observed, states={**self.observed.states, node: late})

    def step(self, most: int | None = None) -> None:
        """Plan, look at what is about to be done, and do it, or a part of it."""
        actions = plan(self.observed, RULES, NOW).actions
        for action in actions:
            self._check(action)
        self.observed = apply(self.observed, actions[:most])
        self.tell()

    def _check(self, action: planning.Action) -> None:
        known = self.observed
        wanted = set() if self.deleted else self.selected & self.alive
        match action:
            case planning.Assign(node, assignment):
                assert assignment.goal != fetch_pb2.GOAL_ABSENT or node not in wanted, "what is wanted stays"
                assert node in self.alive
                if assignment.goal == fetch_pb2.GOAL_HOLD:
                    assert node in wanted
                    assert assignment.artifact in (A, B)
            case planning.Forget(node) if node in self.alive:
                held, state = known.held.get(node), known.states.get(node)
                assert node not in wanted
                assert state is None or state.phase == model_pb2.NODE_PHASE_DELETED
                assert held is None or (state and state.assignment_revision == held.revision), "the last word counts"
            case planning.RemoveFinalizer():
                assert self.deleted
                assert not (known.held.keys() | known.states.keys()) & self.alive - self._forgotten()

    def _forgotten(self) -> set[str]:
        actions = plan(self.observed, RULES, NOW).actions
        return {each.node for each in actions if isinstance(each, planning.Forget)}


def settled(world: World) -> World:
    for _ in range(12):
        world.step()
        world.answer(NODES)
    return world


@settings(max_examples=80, deadline=None)
@given(EVENTS, st.data())
def test_whatever_happens_nothing_that_is_wanted_goes_and_it_ends_as_everybody_has_said(
    events: list[tuple[str, str]], data: st.DataObject
) -> None:
    world = World(observe(item({"storageUri": "hf://org/model", "nodeSelector": {"gpu": "yes"}})))
    world.tell()
    settled(world)
    assert set(world.observed.held) == set(NODES)
    for event, node in events:
        world.happen(event, node)
        if data.draw(st.booleans(), "planned"):
            world.step(data.draw(st.integers(0, 4), "applied") if event == "crash" else None)
    world.limit = WIDE
    world.tell()
    settled(world)
    if world.deleted:
        assert (world.observed.model, world.observed.held, world.observed.states) == (None, {}, {})
        return
    held = {node: each.assignment for node, each in world.observed.held.items()}
    assert {node for node, each in held.items() if each.goal == fetch_pb2.GOAL_HOLD} == world.selected & world.alive
    expected = A if world.goes_back else world.artifact
    assert {each.artifact.digest for each in held.values()} <= {expected.digest}
    assert all(len(each.kept_revisions) <= world.kept for each in held.values())

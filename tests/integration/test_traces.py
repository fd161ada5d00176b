"""One trace tells how a revision came to a node: through every service, across NATS and gRPC, from apply to Ready."""

from collections.abc import Iterator

import pytest

from libs.artifact.names import trace_key
from libs.chassis.traces import ids_of
from tests.support.fleet import Fleet, model, started_fleet
from tests.support.hub.client import Fault, generated_model
from tests.support.trace_collector import Span, TraceCollector, running_collector

pytestmark = pytest.mark.cluster

NODES = ("node-1", "node-2")
# Of each node's trace, in the order in which they end.
PARTS = (
    "controller.resolve",
    "controller.plan",
    "controller.assign",
    "fetcher.receive",
    "fetcher.transfer",
    "fetcher.verify",
    "fetcher.publish",
    "fetcher.parse",
    "status.fold",
    "status.write",
)
WHOLE, RPC = "model.ready", "parser.Parse"


@pytest.fixture(scope="module")
def collector() -> Iterator[TraceCollector]:
    with running_collector() as running:
        yield running


@pytest.fixture(scope="module")
def fleet(collector: TraceCollector) -> Iterator[Fleet]:
    traces = {"traces": {"endpoint": collector.endpoint}}
    with started_fleet(2, {"controller": traces, "fetcher": traces, "status": traces}) as fleet:
        yield fleet


def trace_of(collector: TraceCollector, uid: str, digest: str, node: str) -> dict[str, Span]:
    """The spans of one revision on one node, by name; the first of each."""
    identity = f"{ids_of(trace_key(uid, digest, node)).trace:032x}"
    return {span.name: span for span in reversed(collector.spans()) if span.trace == identity}


def whole_trace(fleet: Fleet, collector: TraceCollector, uid: str, digest: str, node: str) -> dict[str, Span]:
    """The same once it is whole."""
    wanted = {*PARTS, WHOLE}
    found: dict[str, Span] = fleet.until(
        f"the trace of {node} is whole",
        lambda: spans if wanted <= (spans := trace_of(collector, uid, digest, node)).keys() else None,
    )
    return found


def test_each_node_and_revision_has_one_whole_trace(fleet: Fleet, collector: TraceCollector) -> None:
    fleet.hub.add_model("acme/traced", generated=generated_model(1 << 20))
    traced = model("traced", "hf://acme/traced@main")
    fleet.apply(traced)
    first = fleet.await_state(traced, "Ready", set(NODES))
    uid, digest = first["metadata"]["uid"], first["status"]["artifact"]["digest"]
    asked = 0
    for node in NODES:
        spans = whole_trace(fleet, collector, uid, digest, node)
        root = spans[WHOLE]
        assert root.parent == ""
        assert root.about["ome.model.name"] == "traced"
        assert root.about["ome.node"] == node
        parts = [spans[name] for name in PARTS]
        assert {span.parent for span in parts} == {root.identity}
        assert {span.service for span in parts} == {"controller", "fetcher", "status"}
        assert not any(span.failed for span in parts)
        # The API server tells seconds, and the listing milliseconds.
        assert all(root.started <= span.started + 10**9 and span.ended <= root.ended + 10**9 for span in parts)
        assert spans["fetcher.transfer"].started >= spans["controller.plan"].started
        assert spans["fetcher.publish"].started >= spans["fetcher.verify"].ended
        assert int(spans["fetcher.transfer"].about["ome.bytes"]) > 1 << 20
        asked += RPC in spans
    # What one node has learned of the files, the others do not ask again.
    assert asked >= 1

    fleet.hub.push("acme/traced", {"extra.json": "{}"})
    fleet.cluster.kubectl("patch", "clusterbasemodel", "traced", "--type=merge", "-p", _other_branch(fleet))
    second = fleet.until("the second revision is listed", lambda: _revision(fleet, traced, digest))
    for node in NODES:
        spans = whole_trace(fleet, collector, uid, second, node)
        assert spans[WHOLE].trace != trace_of(collector, uid, digest, node)[WHOLE].trace


def test_a_transfer_that_fails_says_so_in_its_trace(fleet: Fleet, collector: TraceCollector) -> None:
    fleet.hub.add_model("acme/refused", generated=generated_model(1 << 20, seed=1))
    fault = fleet.hub.inject(Fault("status", path="*/acme/refused/*.safetensors", status=404))
    refused = model("refused", "hf://acme/refused")
    fleet.apply(refused)
    fault.wait_fired(seconds=60)

    def failed() -> list[Span]:
        return [span for span in collector.spans() if span.name == "fetcher.transfer" and span.failed]

    assert fleet.until("the failure is told", failed)
    fault.remove()
    ready = fleet.await_state(refused, "Ready", set(NODES))
    uid, digest = ready["metadata"]["uid"], ready["status"]["artifact"]["digest"]
    for node in NODES:
        whole_trace(fleet, collector, uid, digest, node)


def _other_branch(fleet: Fleet) -> str:
    fleet.hub.push("acme/traced", {"extra.json": "[]"}, branch="next")
    return '{"spec": {"storage": {"storageUri": "hf://acme/traced@next"}}}'


def _revision(fleet: Fleet, traced: dict[str, object], before: str) -> str:
    digest: str = ((fleet.get(traced) or {}).get("status", {}).get("artifact") or {}).get("digest", "")
    return digest if digest != before else ""

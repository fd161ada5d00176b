"""Tells how a node came to be told to hold a model, as parts of the trace of its revision there. Decides nothing."""

from collections.abc import Callable

from libs.artifact.names import trace_key
from libs.chassis.traces import Traces
from ome.fetch.v1.fetch_pb2 import Assignment
from services.controller.planning import Observed


class Trail:
    """What the controller does for models, told when a node has been told."""

    def __init__(
        self,
        traces: Traces,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """clock tells seconds since the epoch, monotonic those by which listings are asked for."""
        self._traces = traces
        self._clock = clock
        self._monotonic = monotonic

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock()

    def assigned(self, observed: Observed, node: str, assignment: Assignment, began: float, planned: float) -> None:
        """A node has been told: when the pass over the model began, and when it was planned."""
        digest = assignment.artifact.digest
        if not digest:
            return
        trace, about = trace_key(observed.uid, digest, node), {"ome.model.uid": observed.uid, "ome.node": node}
        if listed := self._listing(observed, digest):
            self._traces.part(trace, "controller.resolve", *listed, about)
        self._traces.part(trace, "controller.plan", began, planned, about)
        self._traces.part(trace, "controller.assign", planned, self._clock(), about)

    def _listing(self, observed: Observed, digest: str) -> tuple[float, float] | None:
        """When the source was asked for this revision, and when it was listed; from the asking on if it is known."""
        for key, resolution in observed.resolutions.items():
            if resolution.artifact.digest == digest:
                listed: float = resolution.resolved_at.ToMilliseconds() / 1000
                asked = observed.asked.get(key)
                since = self._clock() - (self._monotonic() - asked.at) if asked else listed
                return min(since, listed), listed
        return None

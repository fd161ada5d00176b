"""Tells when a revision of a model is Ready on a node, as the end of its trace there. Decides nothing."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from libs.artifact.names import trace_key
from libs.chassis.traces import NoTraces, Traces

WHOLE = "model.ready"


class Trail:
    """What the status service does for models, told for each node that has become Ready by it."""

    def __init__(self, traces: Traces, clock: Callable[[], float]) -> None:
        """clock tells seconds since the epoch."""
        self._traces = traces
        self._clock = clock
        # Whether anybody is told, and it is worth to look which nodes are Ready.
        self.heard = not isinstance(traces, NoTraces)
        # What was told of each model: the revision that each node was Ready with.
        self._told: dict[str, dict[str, str]] = {}

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock()

    def written(
        self,
        model: Mapping[str, Any],
        before: Mapping[str, Any],
        ready: Iterable[tuple[str, str]],
        folding: float,
        writing: float,
    ) -> None:
        """A status was written that says which nodes are Ready, each with a digest.

        folding and writing are when either began. `before` is what was written last: a process that has just begun to
        lead takes what it says for told.
        """
        uid, now, known = model["metadata"]["uid"], self._clock(), dict(ready)
        told = self._told.get(uid)
        if told is None:
            told = {node: known[node] for node in before.get("nodesReady") or () if node in known}
        for node, digest in known.items():
            if digest and told.get(node) != digest:
                self._tell(model, node, digest, folding, writing, now)
        self._told[uid] = known

    def forget(self, uid: str) -> None:
        """A model is gone."""
        self._told.pop(uid, None)

    def _tell(
        self, model: Mapping[str, Any], node: str, digest: str, folding: float, writing: float, now: float
    ) -> None:
        metadata = model["metadata"]
        trace, about = trace_key(metadata["uid"], digest, node), {"ome.model.uid": metadata["uid"], "ome.node": node}
        self._traces.part(trace, "status.fold", folding, writing, about)
        self._traces.part(trace, "status.write", writing, now, about)
        named = {"ome.model.name": metadata["name"], "ome.model.namespace": metadata.get("namespace", "")}
        about |= {"ome.model.kind": model["kind"], "ome.digest": digest, **named}
        self._traces.whole(trace, WHOLE, min(_wanted_at(model, digest), folding), now, about)


def _wanted_at(model: Mapping[str, Any], digest: str) -> float:
    """Since when a revision is wanted, in seconds since the epoch: the first since the model was made."""
    history = (model.get("status") or {}).get("history") or ()
    later = [each["since"] for each in history[:-1] if each["digest"] == digest]
    since: str = later[0] if later else model["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(since).timestamp()

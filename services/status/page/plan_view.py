"""What would come of a manifest, laid out for the page: the verdict first, then the source, then each node. Pure.

The verdict is that of `kubectl ome-models plan`; a test holds both together.
"""

from dataclasses import dataclass

from libs.artifact.sizes import shown_size
from libs.model.kinds import kind_numbered
from libs.model.reasons import word_of
from ome.model.v1.model_pb2 import (
    ROOM_VERDICT_EVICTS,
    ROOM_VERDICT_FITS,
    ROOM_VERDICT_HELD,
    ROOM_VERDICT_LACKS,
    ROOM_VERDICT_UNSPECIFIED,
    WHOLENESS_INCOMPLETE,
    WHOLENESS_WHOLE,
    Forecast,
    ForecastNode,
    ModelRef,
)
from services.status.page.figures import duration, rate

WORKS, FAILS, UNKNOWN = "works", "fails", "unknown"
_HEADS = {WORKS: "It works", FAILS: "It fails", UNKNOWN: "Not all is known"}
_TONES = {WORKS: "ready", FAILS: "failed", UNKNOWN: "moving"}
# The words, and the state whose look they have.
_ROOMS = {
    ROOM_VERDICT_HELD: ("Is there", "ready"),
    ROOM_VERDICT_FITS: ("Fits", "ready"),
    ROOM_VERDICT_EVICTS: ("Fits after evictions", "moving"),
    ROOM_VERDICT_LACKS: ("Too little room", "failed"),
}
# Names and indexes prove that something is missing, and never that nothing is.
_WHOLE = {WHOLENESS_WHOLE: "yes", WHOLENESS_INCOMPLETE: "no"}


@dataclass(frozen=True)
class PlanNode:
    """A node that would hold the model."""

    name: str
    room: str
    kind: str
    free: str
    evictable: tuple[ModelRef, ...]
    time: str
    root: str


@dataclass(frozen=True)
class PlanView:
    """The page of a plan."""

    name: str
    head: str
    tone: str
    reason: str
    message: str
    figures: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    nodes: tuple[PlanNode, ...]
    more_nodes: int
    misses: tuple[str, ...]


def plan_view(forecast: Forecast) -> PlanView:
    """A forecast for a person."""
    verdict = verdict_of(forecast)
    reason, message = word_of(forecast.reason), forecast.message
    if not reason and forecast.source_message:
        reason, message = word_of(forecast.source_reason), forecast.source_message
    if not message and forecast.lacking_nodes:
        lack = "lacks" if forecast.lacking_nodes == 1 else "lack"
        message = f"{forecast.lacking_nodes:,} of {forecast.node_count:,} nodes {lack} room."
    change = "would be changed" if forecast.exists else "would be created"
    return PlanView(
        name=f"{_name(forecast.model)} {change}.",
        head=_HEADS[verdict],
        tone=_TONES[verdict],
        reason=reason,
        message=message,
        figures=tuple((name, value) for name, value in _figures(forecast) if value),
        remarks=tuple(remark.message for remark in forecast.remarks),
        files=tuple((file.path, shown_size(file.bytes)) for file in forecast.files),
        nodes=tuple(map(_node, forecast.nodes)),
        more_nodes=max(0, forecast.node_count - len(forecast.nodes)),
        misses=tuple(forecast.misses),
    )


def verdict_of(forecast: Forecast) -> str:
    """Whether the model would come to be on all nodes that it is meant for, as far as it can be said."""
    if forecast.reason or forecast.lacking_nodes:
        return FAILS
    source_unknown = forecast.source_reason and not forecast.listed
    room_unknown = any(node.room == ROOM_VERDICT_UNSPECIFIED for node in forecast.nodes)
    return UNKNOWN if source_unknown or (forecast.artifact.digest and room_unknown) else WORKS


def _figures(forecast: Forecast) -> list[tuple[str, str]]:
    artifact = forecast.artifact
    asked = f", asked with {forecast.credentials}" if forecast.credentials else ""
    listed = "listed a moment ago, so its host is allowed" if forecast.listed else "not listed"
    found = [("Source", f"{forecast.source}{asked}; {listed}" if forecast.source else "")]
    nodes = f"{forecast.node_count:,}"
    if forecast.lacking_nodes:
        nodes += f", {forecast.lacking_nodes:,} without room"
    if not artifact.digest:
        return [*found, ("Nodes", nodes)]
    size, each = shown_size(artifact.bytes), f"{forecast.fetching_nodes:,} × {shown_size(artifact.bytes)}"
    return [
        *found,
        ("Revision", artifact.source_revision),
        ("Download", f"{size} in {artifact.files:,} files, {shown_size(forecast.disk_bytes)} on disk"),
        ("Whole", _wholeness(forecast)),
        ("Nodes", nodes),
        ("Egress", f"at most {shown_size(forecast.egress_bytes)} from the source ({each})"),
    ]


def _wholeness(forecast: Forecast) -> str:
    nothing_missing = "nothing is missing, by its names and indexes" if forecast.listed else ""
    word = _WHOLE.get(forecast.completeness.wholeness, nothing_missing)
    defects = "; ".join(defect.message for defect in forecast.completeness.defects)
    return f"{word}: {defects}" if defects else word


def _node(said: ForecastNode) -> PlanNode:
    room, kind = _ROOMS.get(said.room, ("Not known", "waiting"))
    free = ""
    if said.total_bytes:
        free = f"{shown_size(said.free_bytes)} of {shown_size(said.total_bytes)}"
        free += f", {shown_size(said.reserved_bytes)} reserved" if said.reserved_bytes else ""
        free += ", above its watermark" if said.over_watermark else ""
    time = ""
    if said.room != ROOM_VERDICT_HELD:
        time = f"{duration(said.seconds)} at {rate(said.bytes_per_second)}" if said.seconds else "not known"
    return PlanNode(said.node, room, kind, free, tuple(said.evictable), time, said.root)


def _name(ref: ModelRef) -> str:
    return f"{kind_numbered(ref.kind).name} {'/'.join(filter(None, (ref.namespace, ref.name)))}"

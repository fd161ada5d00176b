"""Says what would come of a model on the nodes that get it: whether it fits, what would go for it, what it costs. Pure.

What planning decides of a model is put into words here, and not decided again; nor is what fits and what may go.
"""

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from libs.model.eviction import Resident, Watermarks, bytes_over, choose, lacking_bytes
from libs.model.explanation import missed_details
from libs.model.placement import is_placed
from libs.model.tolerations import untolerated
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller.planning import NodeView, Plan, Report
from services.controller.specification import ModelSource

# Nodes that are told of one by one; the figures count all of them.
_NODES_TOLD = 100
# What may be evicted on a node is told of so many models.
_MODELS_TOLD = 20
_PLACED_TOLD = 5


@dataclass(frozen=True)
class NodeRoom:
    """What a node has: its last heartbeat, its copies, the digest of the model that is forecast, if it has one.

    paths are those of other models, by uid; one without is in the node's first root.
    """

    name: str
    heartbeat: fetch_pb2.NodeHeartbeat | None
    residents: Sequence[Resident]
    paths: Mapping[str, str]
    digest: str = ""


def reported(plan: Plan) -> fetch_pb2.ModelPlan:
    """What a plan would report."""
    return next(action.plan for action in plan.actions if isinstance(action, Report))


def credentials_in_words(source: ModelSource) -> str:
    """Which credentials a source is asked with; never a value."""
    if source.secret:
        key = f", key {source.secret.key}" if source.secret.key else ""
        return f"Secret {source.secret.namespace}/{source.secret.name}{key}"
    if source.token_version:
        return "the token in storage.parameters"
    return "no Secret"


def add_nodes(
    forecast: model_pb2.Forecast, rooms: Iterable[NodeRoom], path: str, refs: Mapping[str, model_pb2.ModelRef]
) -> None:
    """Tell of the nodes that would hold the model, and add up what it costs. refs are other models by uid."""
    digest = forecast.artifact.digest
    # Copies of other namespaces are none of the caller's: a list of checksums would tell who holds which files where.
    told_of = {uid for uid, ref in refs.items() if ref.namespace in ("", forecast.model.namespace)}
    found = [_node(room, path, digest, forecast.disk_bytes, refs, told_of) for room in rooms]
    found.sort(key=lambda each: (-each.room, each.node))
    forecast.node_count = len(found)
    forecast.lacking_nodes = sum(each.room == model_pb2.ROOM_VERDICT_LACKS for each in found)
    if digest:
        forecast.fetching_nodes = sum(each.room != model_pb2.ROOM_VERDICT_HELD for each in found)
        forecast.egress_bytes = forecast.fetching_nodes * forecast.artifact.bytes
    forecast.nodes.extend(found[:_NODES_TOLD])


def misses(
    storage: Mapping[str, Any], views: Iterable[NodeView], desired: Iterable[str], with_labels: bool
) -> Iterator[str]:
    """How the nodes that would not get the model stand to its rules. The storage must pass check_placement."""
    getting = set(desired)
    others = sorted((view for view in views if view.name not in getting), key=lambda view: view.name)
    placed = [view for view in others if is_placed(storage, view.name, view.labels)]
    for view in placed[:_PLACED_TOLD]:
        yield f"Node {view.name} matches, but {_why_not(storage, view)}."
    if len(placed) > _PLACED_TOLD:
        yield f"{len(placed) - _PLACED_TOLD:,} more nodes match, but get nothing new now."
    yield from missed_details(storage, ((view.name, view.labels) for view in others), with_labels)


def _why_not(storage: Mapping[str, Any], view: NodeView) -> str:
    if not view.accepts_new:
        return "is cordoned or not ready"
    if taint := untolerated(storage, view.taints):
        return f"has the taint {taint}, which storage.tolerations does not tolerate"
    return "no fetcher reports from it"


def _node(
    room: NodeRoom,
    path: str,
    digest: str,
    needed: int,
    refs: Mapping[str, model_pb2.ModelRef],
    told_of: Set[str],
) -> model_pb2.ForecastNode:
    told = model_pb2.ForecastNode(node=room.name)
    root = _root_of(room.heartbeat, path)
    if root is None:
        return told
    told.root, told.total_bytes, told.free_bytes = root.root, root.total_bytes, root.free_bytes
    told.reserved_bytes = root.reserved_bytes
    here = [each for each in room.residents if _is_in(each, root, room)]
    if not digest:
        return told
    if digest == room.digest or any(each.digest == digest and not told_of.isdisjoint(each.models) for each in here):
        told.room = model_pb2.ROOM_VERDICT_HELD
        return told
    if root.high_watermark_percent:
        marks = Watermarks(root.high_watermark_percent / 100, root.low_watermark_percent / 100)
        told.over_watermark = bool(bytes_over(marks, root.total_bytes, root.free_bytes - root.reserved_bytes - needed))
    lacking = lacking_bytes(needed, root.free_bytes, root.reserved_bytes)
    if not lacking:
        told.room = model_pb2.ROOM_VERDICT_FITS
        return told
    going = choose(here, lacking)
    told.room = model_pb2.ROOM_VERDICT_EVICTS if going else model_pb2.ROOM_VERDICT_LACKS
    if going:
        # Which of them go, the node decides: when each was used last is known there.
        possible = [each for each in here if each.evictable and not each.used]
        told.evictable_bytes = sum(each.bytes for each in possible)
        told.evictable.extend(refs[uid] for each in possible for uid in each.models[:_MODELS_TOLD] if uid in refs)
        del told.evictable[_MODELS_TOLD:]
    return told


def _is_in(resident: Resident, root: fetch_pb2.RootCapacity, room: NodeRoom) -> bool:
    """Whether a copy lies in a root, by the path of the first model that leads to it."""
    found = _root_of(room.heartbeat, room.paths.get(resident.models[0], ""))
    return found is not None and found.root == root.root


def _root_of(heartbeat: fetch_pb2.NodeHeartbeat | None, path: str) -> fetch_pb2.RootCapacity | None:
    """The root in which a path lies, that without a path is the first; None if that is not known or not usable."""
    roots = list(heartbeat.roots) if heartbeat else []
    if not path:
        # Roots that cannot be used are told of first, so with one of them it is not known which is the first.
        return roots[0] if roots and not any(root.problem for root in roots) else None
    wanted = posixpath.normpath(path)
    above = [root for root in roots if wanted.startswith(f"{root.root.rstrip('/')}/") and not root.problem]
    return max(above, key=lambda root: len(root.root), default=None)

"""What the pages of one model, one node and one source show, laid out for the templates. Pure.

Decides what comes first: what is wrong before what moves before what is well. Texts are plain; the templates escape.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import yaml

from libs.artifact.reasons import Reason
from libs.artifact.sizes import shown_size
from libs.model.explanation import Explanation
from libs.model.kinds import kind_numbered
from libs.model.reasons import word_of
from ome.fetch.v1.fetch_pb2 import FileProgress, NodeHeartbeat, Progress
from ome.model.v1.model_pb2 import NODE_PHASE_READY, NODE_PHASE_UPDATING, REASON_RATE_LIMITED, ModelRef
from ome.parser.v1.parser_pb2 import ModelFacts, ParameterCount
from ome.status.v1.status_pb2 import Condition, ConditionStatus, Model, NodeStatus
from services.status.page.cells import (
    CODES,
    EVICTED,
    FAILED,
    LEFTOVER,
    MOVING,
    READY,
    UNREACHABLE,
    WAITING,
    cell,
    in_order,
)
from services.status.page.figures import duration, percent, rate
from services.status.page.sight import state_word, why_of

# A browser lays out so many rows at once; of a large fleet the others are mostly Ready, and the matrix shows them all.
_MOST_ROWS = 200
_MOST_LIMITS = 4
# Nodes whose single files are told beside them.
_MOST_WITH_FILES = 6
_NAMES = {code: name for name, code in CODES.items()}
_ORDER = (FAILED, UNREACHABLE, MOVING, WAITING, EVICTED, READY, LEFTOVER)
_SHOWN = {
    "moving": "Downloading",
    "waiting": "Waiting",
    "ready": "Ready",
    "failed": "Failed",
    "unreachable": "Unreachable",
    "leftover": "No longer wanted",
    "evicted": "Evicted",
}
# What passes by itself.
_ON_ITS_WAY = (Reason.DOWNLOADING, Reason.QUEUED, Reason.RESOLVING)
_IN_PLACE = ("local", "pvc")
# All their repositories are behind one door.
_HUBS = ("hf", "ms")
# What the API server keeps for itself, and nobody applies again.
_NOT_APPLIED = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True)
class FileOnItsWay:
    """One file that comes to a node."""

    path: str
    percent: int
    done: str
    rate: str
    left: str


@dataclass(frozen=True)
class Standing:
    """One model on one node."""

    model: ModelRef
    node: str
    kind: str
    shown: str
    percent: int
    done: str
    rate: str
    left: str
    reason: str
    message: str
    path: str
    code: int
    bytes_per_second: int = 0
    # The Pods that use it there, as far as whoever may see the model may know them.
    users: tuple[str, ...] = ()
    files: tuple[FileOnItsWay, ...] = ()

    @property
    def model_address(self) -> str:
        """The page of the model."""
        return model_address(self.model)

    @property
    def node_address(self) -> str:
        """The page of the node."""
        return node_address(self.node)


@dataclass(frozen=True)
class Root:
    """A model root of a node, and what fills it: shares are per mille of the file system."""

    name: str
    total: str
    free: str
    reserved: str
    problem: str
    used_share: int
    models_share: int


@dataclass(frozen=True)
class RevisionView:
    """One revision that nodes were to hold. is_wanted says that they are to hold it now."""

    name: str
    since: str
    files: str
    size: str
    digest: str
    is_wanted: bool


@dataclass(frozen=True)
class ModelView:
    """The page of a model."""

    ref: ModelRef
    kind: str
    state: str
    reason: str
    why: str
    source: str
    artifact: tuple[tuple[str, str], ...]
    counts: tuple[tuple[str, str, int], ...]
    desired: int
    standings: tuple[Standing, ...]
    more: int
    conditions: tuple[tuple[str, str, str, str, str], ...]
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    bytes_per_second: int
    figures: str
    explained: Explanation | None
    revisions: tuple[RevisionView, ...]

    @property
    def address(self) -> str:
        """Where the page is."""
        return model_address(self.ref)

    @property
    def tone(self) -> str:
        """How bad the worst news is, as the colour of a state."""
        kinds = [kind for kind, _, _ in self.counts]
        if self.state == "Failed" or "failed" in kinds:
            return "failed"
        if "unreachable" in kinds:
            return "unreachable"
        return "ready" if self.state == "Ready" and not self.why else "moving"


@dataclass(frozen=True)
class NodeView:
    """The page of a node."""

    name: str
    reachable: bool
    version: str
    roots: tuple[Root, ...]
    counts: tuple[tuple[str, str, int], ...]
    standings: tuple[Standing, ...]
    disk: tuple[tuple[Standing, str, int], ...]
    held: str
    figures: str
    bytes_per_second: int
    limits: str

    @property
    def address(self) -> str:
        """Where the page is."""
        return node_address(self.name)


@dataclass
class SourceView:
    """What is known of one place that models come from."""

    name: str
    models: int = 0
    bytes_per_second: int = 0
    moving: int = 0
    # Nodes whom the source has asked to slow down.
    held_back: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    waiting: list[tuple[ModelRef, str, str]] = field(default_factory=list)

    @property
    def rate(self) -> str:
        """What all nodes together fetch from there now."""
        return rate(self.bytes_per_second)


Facts = tuple[tuple[str, str], ...]
ProgressOf = Callable[[str, str], Progress | None]


def model_view(
    model: Model,
    desired: frozenset[str],
    progress_of: ProgressOf,
    explained: Explanation | None,
    status: Mapping[str, Any],
) -> ModelView:
    """A model as it stands; status is what was written of it last."""
    standings = sorted(
        (
            standing(model.ref, each, each.node in desired, progress_of(each.node, model.ref.uid))
            for each in model.nodes
        ),
        key=_worst_first,
    )
    reason, why = why_of(model)
    speed = sum(each.bytes_per_second for each in standings)
    return ModelView(
        ref=model.ref,
        kind=kind_numbered(model.ref.kind).name,
        state=state_word(model.state),
        reason=reason,
        why=why,
        source=model.storage_uri,
        artifact=_artifact(model, status),
        counts=_counts(standings),
        desired=len(desired),
        standings=_with_few_files(standings[:_MOST_ROWS]),
        more=len(standings) - _MOST_ROWS,
        conditions=tuple(map(_condition, model.conditions)),
        facts=_facts(model.facts) if model.HasField("facts") else (),
        warnings=tuple(model.facts.warnings),
        bytes_per_second=speed,
        figures=rate(speed),
        explained=explained,
        revisions=tuple(_revision(each, model.artifact.digest) for each in status.get("history") or ()),
    )


def node_view(
    name: str,
    reachable: bool,
    heartbeat: NodeHeartbeat | None,
    models: Sequence[Model],
    desired_of: Callable[[str], frozenset[str]],
    progress_of: ProgressOf,
    status_of: Callable[[str], Mapping[str, Any]] = lambda uid: {},
) -> NodeView:
    """A node and those of the models that are on it, or are meant to be; status_of has the .status of a model."""
    standings: list[Standing] = []
    held: dict[str, tuple[Standing, int]] = {}
    for model in models:
        each = status_on(model, name)
        if each is None:
            continue
        one = standing(model.ref, each, name in desired_of(model.ref.uid), progress_of(name, model.ref.uid))
        one = replace(one, users=_users(status_of(model.ref.uid), name))
        standings.append(one)
        if each.phase == NODE_PHASE_READY and model.artifact.bytes:
            # Models of one artifact share its bytes.
            held.setdefault(model.artifact.digest or model.ref.uid, (one, model.artifact.bytes))
    disk = sorted(held.values(), key=lambda item: (-item[1], item[0].model.name))
    total = sum(count for _, count in disk)
    largest = disk[0][1] if disk else 1
    speed = sum(each.bytes_per_second for each in standings)
    heartbeat = heartbeat or NodeHeartbeat()
    return NodeView(
        name=name,
        reachable=reachable,
        version=heartbeat.version,
        roots=tuple(
            Root(
                name=root.root,
                total=shown_size(root.total_bytes),
                free=shown_size(root.free_bytes),
                reserved=shown_size(root.reserved_bytes) if root.reserved_bytes else "",
                problem=root.problem,
                used_share=_per_mille(root.total_bytes - root.free_bytes, root.total_bytes),
                # Which root a model lies in is not told where there are several.
                models_share=_per_mille(total, root.total_bytes) if len(heartbeat.roots) == 1 else 0,
            )
            for root in heartbeat.roots
        ),
        counts=_counts(standings),
        standings=_with_few_files(sorted(standings, key=_worst_first)),
        disk=tuple((one, shown_size(count), max(4, 1000 * count // largest)) for one, count in disk),
        held=shown_size(total),
        figures=rate(speed),
        bytes_per_second=speed,
        limits=_limits(heartbeat),
    )


def limits_of_nodes(heartbeats: Iterable[NodeHeartbeat]) -> list[tuple[str, int]]:
    """What downloads of nodes are held to, and on how many nodes, the most usual first."""
    counted = Counter(filter(None, map(_limits, heartbeats)))
    return counted.most_common(_MOST_LIMITS)


def source_views(models: Iterable[Model], progress_of: ProgressOf) -> list[SourceView]:
    """Sources by name, with what their models wait for and why their nodes have failed."""
    sources: dict[str, SourceView] = {}
    for model in models:
        name = source_name(model.storage_uri)
        if not name:
            continue
        source = sources.setdefault(name, SourceView(name))
        source.models += 1
        reason, why = why_of(model)
        if reason and reason not in _ON_ITS_WAY:
            source.waiting.append((model.ref, reason, why))
        for each in model.nodes:
            if _code(each, True, None) == FAILED:
                source.failures[word_of(each.reason) or "Unknown"] += 1
            source.held_back += each.reason == REASON_RATE_LIMITED
            if each.phase == NODE_PHASE_UPDATING and (progress := progress_of(each.node, model.ref.uid)):
                source.moving += 1
                source.bytes_per_second += max(0, progress.bytes_per_second)
    return sorted(sources.values(), key=lambda each: (-each.bytes_per_second, each.name))


def source_name(uri: str) -> str:
    """The place that a URI names: a hub, or a scheme with its bucket or vendor; empty for what is read in place."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme in _IN_PLACE:
        return ""
    if scheme in _HUBS:
        return f"{scheme}://"
    return f"{scheme}://{'/'.join(rest.split('/')[: 4 if scheme == 'oci' else 1])}"


def standing(ref: ModelRef, status: NodeStatus, desired: bool, progress: Progress | None) -> Standing:
    """One model on one node."""
    progress = progress if status.phase == NODE_PHASE_UPDATING else None
    code = cell(status, desired, progress)
    is_moving = MOVING <= code < WAITING
    kind = "moving" if is_moving else _NAMES[code]
    done = max(status.bytes_done, progress.bytes_done if progress else 0)
    speed = progress.bytes_per_second if progress and is_moving else 0
    return Standing(
        model=ref,
        node=status.node,
        kind=kind,
        shown=_SHOWN[kind],
        percent=code - MOVING if is_moving else 100 * (code == READY),
        done=f"{shown_size(done)} of {shown_size(status.bytes_total)}" if is_moving and status.bytes_total else "",
        rate=rate(speed),
        left=duration(progress.eta_seconds) if progress and is_moving and progress.eta_seconds else "",
        reason=word_of(status.reason),
        message=status.message,
        path=status.path,
        code=code,
        bytes_per_second=speed,
        files=tuple(map(_on_its_way, progress.files)) if progress and is_moving else (),
    )


def status_on(model: Model, node: str) -> NodeStatus | None:
    """How a model stands on a node; None if it does not stand there at all."""
    place = bisect_left(model.nodes, node, key=lambda each: each.node)
    return model.nodes[place] if place < len(model.nodes) and model.nodes[place].node == node else None


def model_address(ref: ModelRef) -> str:
    """The path of a model's page."""
    parts = (kind_numbered(ref.kind).plural, ref.namespace, ref.name)
    return "/models/" + "/".join(quote(part, safe="") for part in parts if part)


def node_address(name: str) -> str:
    """The path of a node's page."""
    return f"/nodes/{quote(name, safe='')}"


def manifest(model: Mapping[str, Any]) -> str:
    """A model object as YAML that can be applied again."""
    metadata = {key: value for key, value in model["metadata"].items() if key not in _NOT_APPLIED}
    annotations = {
        key: value for key, value in (metadata.pop("annotations", None) or {}).items() if key != _LAST_APPLIED
    }
    if annotations:
        metadata["annotations"] = annotations
    shown = {
        "apiVersion": model["apiVersion"],
        "kind": model["kind"],
        "metadata": metadata,
        "spec": model.get("spec", {}),
    }
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=100)


def ago(seconds: float) -> str:
    """How long ago something was."""
    return f"{duration(seconds)} ago"


def _code(status: NodeStatus, desired: bool, progress: Progress | None) -> int:
    return cell(status, desired, progress)


def _worst_first(each: Standing) -> tuple[int, int, list[str], str]:
    order = _ORDER.index(MOVING if each.kind == "moving" else each.code)
    # The slowest download first: the others wait for it.
    return order, each.percent, in_order(frozenset([each.node])), each.model.name


def _counts(standings: Iterable[Standing]) -> tuple[tuple[str, str, int], ...]:
    counted = Counter(each.kind for each in standings)
    return tuple((name, _SHOWN[name], counted[name]) for name in map(_name, _ORDER) if counted[name])


def _name(code: int) -> str:
    return _NAMES[code]


def _limits(heartbeat: NodeHeartbeat) -> str:
    """What downloads of a node are held to, in words; empty where the fetcher does not tell."""
    if not heartbeat.HasField("limits"):
        return ""
    limits = heartbeat.limits
    bandwidth = f"{rate(limits.bytes_per_second)} at most" if limits.bytes_per_second else "any rate"
    each = limits.connections_per_host
    connections = f"{each} connection{'s' * (each != 1)} to a host" if each else "any number of connections"
    return f"{bandwidth}, by {connections}"


def _users(status: Mapping[str, Any], node: str) -> tuple[str, ...]:
    """Pods on a node that use a model: those by its name, and those that hold a copy which has lost it."""
    in_use = status.get("inUse") or {}
    named = [str(each["pod"]) for each in in_use.get("users") or () if each["node"] == node]
    held = [str(pod) for each in in_use.get("held") or () if each["node"] == node for pod in each.get("users") or ()]
    return tuple(dict.fromkeys([*named, *held]))


def _with_few_files(standings: Sequence[Standing]) -> tuple[Standing, ...]:
    """Standings of which the first that move tell their files: those of a whole fleet would hide all else."""
    moving = [each for each in standings if each.files]
    silent = set(map(id, moving[_MOST_WITH_FILES:]))
    return tuple(replace(each, files=()) if id(each) in silent else each for each in standings)


def _on_its_way(file: FileProgress) -> FileOnItsWay:
    return FileOnItsWay(
        path=file.path,
        percent=percent(file.bytes_done, file.bytes_total),
        done=f"{shown_size(file.bytes_done)} of {shown_size(file.bytes_total)}",
        rate=rate(file.bytes_per_second),
        left=duration(file.eta_seconds) if file.eta_seconds else "",
    )


def _revision(entry: Mapping[str, Any], wanted: str) -> RevisionView:
    digest, files = str(entry.get("digest") or ""), int(entry.get("files") or 0)
    return RevisionView(
        name=str(entry.get("sourceRevision") or digest),
        since=_moment(entry.get("since")),
        files=f"{files:,}" if files else "",
        size=shown_size(int(entry.get("bytes") or 0)),
        digest=digest,
        is_wanted=bool(digest) and digest == wanted,
    )


def _moment(time: object) -> str:
    return str(time or "").replace("T", " ").removesuffix(":00Z").removesuffix("Z")


def _last_download(status: Mapping[str, Any]) -> str:
    download = status.get("download") or {}
    if not download:
        return ""
    took = duration(int(download.get("seconds") or 0))
    return f"{shown_size(int(download.get('bytes') or 0))} in {took}, until {_moment(download.get('finishedAt'))}"


def _artifact(model: Model, status: Mapping[str, Any]) -> Facts:
    artifact = model.artifact
    found = [
        ("Size", shown_size(artifact.bytes) if artifact.bytes else ""),
        ("Files", f"{artifact.files:,}" * bool(artifact.files)),
    ]
    found += [("Revision", artifact.source_revision), ("Digest", artifact.digest)]
    found += [("Last download", _last_download(status))]
    return tuple((name, value) for name, value in found if value)


def _condition(condition: Condition) -> tuple[str, str, str, str, str]:
    status = ConditionStatus.Name(condition.status).removeprefix("CONDITION_STATUS_").capitalize()
    since = condition.last_transition_time.ToDatetime(UTC)
    shown = "" if since == datetime.fromtimestamp(0, UTC) else since.strftime("%Y-%m-%d %H:%M UTC")
    return condition.type, "Unknown" if status == "Unspecified" else status, condition.reason, condition.message, shown


def _facts(facts: ModelFacts) -> Facts:
    quantized = facts.quantization.spec_value or facts.quantization.method
    found = [
        ("Architecture", facts.architecture),
        ("Type", facts.model_type),
        ("Parameters", _parameters(facts.parameters, facts.parameter_size)),
        ("Active parameters", _parameters(facts.active_parameters, "")),
        ("Context", _tokens(facts.usable_context_length or facts.context_length)),
        ("Weights", shown_size(facts.weight_bytes) if facts.weight_bytes else ""),
        ("Cache per token", shown_size(facts.kv_cache_bytes_per_token) if facts.kv_cache_bytes_per_token else ""),
        ("Precision", facts.dtype),
        ("Quantization", quantized),
        ("Format", " ".join(filter(None, (facts.format, facts.format_version)))),
        ("Framework", " ".join(filter(None, (facts.framework, facts.framework_version)))),
        ("Vocabulary", f"{facts.vocabulary_size:,}" if facts.vocabulary_size else ""),
        ("Can do", ", ".join(facts.capabilities)),
        ("APIs", ", ".join(facts.api_capabilities)),
        ("Licence", facts.license),
    ]
    return tuple((name, value) for name, value in found if value)


def _parameters(count: ParameterCount, size: str) -> str:
    if not count.count:
        return size
    number = f"{'' if count.exact else 'about '}{count.count:,}"
    return f"{size} ({number})" if size else number


def _tokens(count: int) -> str:
    return f"{count:,} tokens" if count else ""


def _per_mille(part: int, whole: int) -> int:
    return max(0, min(1000, 1000 * part // whole)) if whole > 0 else 0

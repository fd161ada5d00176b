"""What each command shows, as rows and lines made from objects. Pure; the time is a parameter."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from clients.kubectl.objects import Entry, by_name, disk_by_model, shown_name, silent_nodes, size_of, why_closed
from clients.kubectl.tables import Column, bar, painted
from libs.artifact.durations import shown_duration
from libs.artifact.sizes import shown_size
from libs.model.explanation import FAILED, READY, UPDATING, NodeFacts, foremost_cause

Row = dict[str, Any]

MODEL_COLUMNS = (
    Column("KIND", "kind"),
    Column("NAMESPACE", "namespace"),
    Column("NAME", "name"),
    Column("STATE", "state"),
    Column("NODES", "nodes"),
    Column("SIZE", "size"),
    Column("PROGRESS", "progress"),
    Column("REASON", "reason"),
    Column("AGE", "age"),
    Column("SOURCE", "source", wide=True),
    Column("REVISION", "revision", wide=True),
    Column("PATH", "path", wide=True),
)
NODE_COLUMNS = (
    Column("NAME", "name"),
    Column("STATUS", "status"),
    Column("READY", "ready"),
    Column("UPDATING", "updating"),
    Column("FAILED", "failed"),
    Column("DISK", "disk"),
    Column("MODELS", "models", wide=True),
)
TOP_COLUMNS = (
    Column("KIND", "kind"),
    Column("NAMESPACE", "namespace"),
    Column("NAME", "name"),
    Column("NODES", "nodes"),
    Column("SIZE", "size"),
    Column("DISK", "disk"),
    Column("TRAFFIC", "traffic"),
    Column("BYTES", "diskBytes", wide=True),
)
HISTORY_COLUMNS = (Column("TIME", "time"), Column("WHAT", "what"), Column("MESSAGE", "message"))
# A node whose fetcher does not report, whatever it said before.
SILENT = "Silent"
# Nodes of one model that are listed one by one, those in trouble first.
_NODES_SHOWN = 20
_RANKS = {FAILED: 0, SILENT: 1, UPDATING: 2, READY: 3}


def model_rows(models: Iterable[Mapping[str, Any]], now: datetime) -> list[Row]:
    """One row for each model."""
    return [_model_row(model, now) for model in by_name(models)]


def node_rows(
    nodes: Iterable[Mapping[str, Any]],
    entries: Mapping[str, Mapping[str, Entry]],
    models: Sequence[Mapping[str, Any]],
) -> list[Row]:
    """One row for each node, by its name."""
    sizes = {model["metadata"]["uid"]: size_of(model) for model in models}
    names = {model["metadata"]["uid"]: model["metadata"]["name"] for model in models}
    silent = silent_nodes(models)
    rows = []
    for node in sorted(nodes, key=lambda each: str(each["metadata"]["name"])):
        name = node["metadata"]["name"]
        here = entries.get(name, {})
        states = [entry.state for entry in here.values()]
        taken = sum(disk_by_model({name: here}, sizes).values())
        closed = why_closed(node)
        rows.append(
            {
                "id": f"node/{name}",
                "name": name,
                "status": closed.removeprefix("is ").capitalize() if closed else SILENT if name in silent else "Ready",
                "ready": states.count(READY),
                "updating": states.count(UPDATING),
                "failed": states.count(FAILED),
                "disk": shown_size(taken),
                "diskBytes": taken,
                "models": ",".join(sorted(names[uid] for uid in here if uid in names)),
            }
        )
    return rows


def top_rows(models: Sequence[Mapping[str, Any]], entries: Mapping[str, Mapping[str, Entry]]) -> list[Row]:
    """One row for each model: those that take the most disk, and then those that move the most, first."""
    taken = disk_by_model(entries, {model["metadata"]["uid"]: size_of(model) for model in models})
    rows = []
    for model in by_name(models):
        rate = ((model.get("status") or {}).get("progress") or {}).get("bytesPerSecond", 0)
        disk = taken[model["metadata"]["uid"]]
        rows.append(
            {
                **_named(model),
                "nodes": len((model.get("status") or {}).get("nodesReady") or ()),
                "size": shown_size(size_of(model)) if size_of(model) else "",
                "disk": shown_size(disk),
                "traffic": f"{shown_size(rate)}/s" if rate else "",
                "diskBytes": disk,
                "bytesPerSecond": rate,
            }
        )
    return sorted(rows, key=lambda row: (-row["diskBytes"], -row["bytesPerSecond"]))


def history_rows(model: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> list[Row]:
    """What is still known of a model's past: its conditions, its revisions, its last download and its events, the
    oldest first.
    """
    status = model.get("status") or {}
    rows = [_moment(model["metadata"].get("creationTimestamp", ""), "Created", shown_name(model))]
    for each in status.get("conditions") or ():
        # Another name of Available.
        if each["type"] != "Ready":
            what = f"{each['type']}={each['status']}"
            rows.append(_moment(each["lastTransitionTime"], what, f"{each['reason']}: {each.get('message', '')}"))
    for each in status.get("history") or ():
        rows.append(_moment(each.get("since", ""), "Revision", _revision(each)))
    if download := status.get("download"):
        told = f"{shown_size(download['bytes'])} in {shown_duration(download['seconds'])}"
        rows.append(_moment(download["finishedAt"], "Downloaded", told))
    for event in events:
        moment = event.get("eventTime") or event.get("lastTimestamp") or event["metadata"].get("creationTimestamp", "")
        rows.append(_moment(moment, f"Event {event.get('reason', '')}", event.get("message") or event.get("note", "")))
    return sorted(rows, key=lambda row: str(row["time"]))


def _revision(entry: Mapping[str, Any]) -> str:
    """A revision, and where it can be gone back to without a download."""
    named = entry.get("sourceRevision") or entry["digest"]
    size = shown_size(entry["bytes"]) if entry.get("bytes") else "unknown size"
    count = entry.get("nodes", 0)
    if not count:
        return f"{named}, {size}: on no node"
    nodes = ", ".join(entry.get("onNodes") or ())
    more = count - len(entry.get("onNodes") or ())
    return f"{named}, {size}: on {nodes}{f' and {more} more' if more else ''}"


def status_lines(model: Mapping[str, Any], nodes: Sequence[NodeFacts], colour: bool, wide: bool = False) -> list[str]:
    """How a model stands: its state and cause, then each of its nodes with a bar; if wide, its files on their way."""
    status = model.get("status") or {}
    state = str(status.get("lifecycle") or status.get("state") or "Creating")
    counts = (status.get("nodes") or {}).get("summary", "-")
    lines = [f"{shown_name(model)}  {painted(state) if colour else state}  nodes {counts}{_size(model)}"]
    if cause := foremost_cause(status):
        lines.append(f"  {cause[0]}: {cause[1]}. {cause[2]}")
    mine = sorted(
        (node for node in nodes if node.standing or node.reports is False),
        key=lambda node: (_RANKS.get(_state(node), 4), node.name),
    )
    width = max((len(node.name) for node in mine[:_NODES_SHOWN]), default=0)
    files = _files_by_node(status) if wide else {}
    for node in mine[:_NODES_SHOWN]:
        lines.append(f"  {node.name.ljust(width)}  {_node_line(node, size_of(model), colour)}")
        lines += [f"    {_file_line(file)}" for file in files.get(node.name, ())]
    if len(mine) > _NODES_SHOWN:
        lines.append(f"  and {len(mine) - _NODES_SHOWN} more nodes")
    return lines


def verified_lines(verified: Mapping[str, Any], request: str, node: str) -> dict[str, str]:
    """What each node has found that has answered a request, by node."""
    lines = {}
    for each in verified.get("results") or ():
        if each.get("request") == request and node in ("", each["node"]):
            lines[each["node"]] = f"{each['node']}  {_finding(each)}"
    return lines


def is_verified(verified: Mapping[str, Any], request: str) -> bool:
    """Whether all nodes that were asked have answered a request."""
    asked = int(verified.get("nodes") or 0)
    return verified.get("request") == request and 0 < asked <= int(verified.get("nodesDone") or 0)


def found_damage(verified: Mapping[str, Any], request: str) -> bool:
    """Whether a node has answered a request with damage; those that have are told before all others."""
    results = [each for each in verified.get("results") or () if each.get("request") == request]
    return any(each.get("damaged") or each.get("problem") for each in results)


def unverified_lines(model: Mapping[str, Any], told: set[str], node: str) -> list[str]:
    """Nodes that hold a model and have not answered in time."""
    holding = (model.get("status") or {}).get("nodesReady") or ()
    late = [each for each in holding if each not in told and node in ("", each)]
    lines = [f"{each}  has not answered yet" for each in late[:_NODES_SHOWN]]
    return lines + ([f"and {len(late) - _NODES_SHOWN} more nodes"] if len(late) > _NODES_SHOWN else [])


def _finding(result: Mapping[str, Any]) -> str:
    if result.get("problem"):
        return f"Unreadable  {result['problem']}"
    if not result.get("damaged"):
        return f"Ok  {shown_size(result.get('bytes', 0))} read"
    files = list(result.get("files") or ())
    more = result["damaged"] - len(files)
    named = ", ".join(files) + (f" and {more} more" if more > 0 else "")
    return f"Damaged  {named}: the node fetches them again"


def _model_row(model: Mapping[str, Any], now: datetime) -> Row:
    status, storage = model.get("status") or {}, (model.get("spec") or {}).get("storage") or {}
    return {
        **_named(model),
        "state": status.get("lifecycle") or status.get("state") or "Creating",
        "nodes": (status.get("nodes") or {}).get("summary", ""),
        "size": shown_size(size_of(model)) if size_of(model) else "",
        "progress": (status.get("progress") or {}).get("percent", ""),
        "reason": status.get("reason", ""),
        "age": _age(model["metadata"].get("creationTimestamp"), now),
        "source": storage.get("storageUri", ""),
        "revision": (status.get("artifact") or {}).get("sourceRevision", ""),
        "path": status.get("path", ""),
    }


def _named(model: Mapping[str, Any]) -> Row:
    metadata = model["metadata"]
    namespace = metadata.get("namespace", "")
    return {"id": shown_name(model), "kind": model["kind"], "namespace": namespace, "name": metadata["name"]}


def _node_line(node: NodeFacts, size: int, colour: bool) -> str:
    standing = node.standing
    if node.reports is False or not standing:
        return f"{painted(SILENT) if colour else SILENT}  NodeUnreachable. The node's fetcher does not report."
    state = (painted(standing.state.ljust(8)) if colour else standing.state.ljust(8)).rstrip()
    if standing.state == READY:
        return f"{bar(1, 1)}  {state}"
    if standing.state == FAILED:
        return f"{state}  {standing.reason}. {standing.message}".rstrip(". ") + "."
    figures = [f"{shown_size(standing.bytes_per_second)}/s"] if standing.bytes_per_second else []
    figures += [f"{shown_duration(standing.eta_seconds)} left"] if standing.eta_seconds else []
    return "  ".join([bar(standing.bytes_done, size), state, standing.reason, *figures])


def _files_by_node(status: Mapping[str, Any]) -> dict[str, Sequence[Mapping[str, Any]]]:
    told = (status.get("progress") or {}).get("nodes") or ()
    return {each["node"]: each.get("files") or () for each in told}


def _file_line(file: Mapping[str, Any]) -> str:
    done, total = file.get("bytes", 0), file.get("totalBytes", 0)
    figures = [f"{shown_size(done)} of {shown_size(total)}"]
    figures += [f"{shown_size(file['bytesPerSecond'])}/s"] if file.get("bytesPerSecond") else []
    figures += [f"{shown_duration(file['etaSeconds'])} left"] if file.get("etaSeconds") else []
    return "  ".join([bar(done, total), file["path"], *figures])


def _state(node: NodeFacts) -> str:
    if node.reports is False:
        return SILENT
    return node.standing.state if node.standing else ""


def _size(model: Mapping[str, Any]) -> str:
    return f"  {shown_size(size_of(model))}" if size_of(model) else ""


def _moment(time: str, what: str, message: str) -> Row:
    # Events have microseconds, conditions have none.
    return {"id": what, "time": f"{time[:19]}Z" if time else "", "what": what, "message": message}


def _age(created: str | None, now: datetime) -> str:
    if not created:
        return ""
    seconds = max(0, int((now - datetime.strptime(created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"

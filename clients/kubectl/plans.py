"""Shows what would come of a manifest, and judges it for scripts. Pure.

Reads the Forecast of ome.model.v1 as JSON has it: whole numbers are strings there, and what is empty is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from clients.kubectl.tables import Column, table
from libs.artifact.durations import shown_duration
from libs.artifact.sizes import shown_size

WORKS, FAILS, UNKNOWN = "works", "fails", "unknown"
_ROOMS = {"HELD": "is there", "FITS": "fits", "EVICTS": "fits after evictions", "LACKS": "too little"}
_NODE_COLUMNS = (
    Column("NODE", "node"),
    Column("ROOM", "room"),
    Column("FREE", "free"),
    Column("RESERVED", "reserved"),
    Column("SIZE", "size"),
    Column("WATERMARK", "watermark"),
    Column("MAY BE EVICTED", "evictable"),
    Column("TIME", "time"),
    Column("ROOT", "root", wide=True),
)
# Names and indexes prove that something is missing, and never that nothing is.
_WHOLE = {"WHOLENESS_WHOLE": "whole", "WHOLENESS_INCOMPLETE": "incomplete"}
_NOTHING_MISSING = "nothing is missing, by its names and indexes"
_NOT_TOLD = "unknown"


def plan_row(manifest: Mapping[str, Any], forecast: Mapping[str, Any]) -> dict[str, Any]:
    """A forecast for a program, with numbers as numbers."""
    artifact = forecast.get("artifact") or {}
    reason = _word(forecast.get("reason", ""), "REASON_")
    return {
        "model": _shown(manifest),
        "verdict": verdict(forecast),
        "exists": bool(forecast.get("exists")),
        "reason": reason,
        "message": forecast.get("message", ""),
        "source": forecast.get("source", ""),
        "credentials": forecast.get("credentials", ""),
        "listed": bool(forecast.get("listed")),
        "sourceMessage": forecast.get("sourceMessage", ""),
        "revision": artifact.get("sourceRevision", ""),
        "digest": artifact.get("digest", ""),
        "bytes": int(artifact.get("bytes", 0)),
        "files": int(artifact.get("files", 0)),
        "diskBytes": int(forecast.get("diskBytes", 0)),
        "largestFiles": [
            {"path": file["path"], "bytes": int(file.get("bytes", 0))} for file in forecast.get("files") or ()
        ],
        "remarks": [remark["message"] for remark in forecast.get("remarks") or ()],
        "whole": _wholeness(forecast),
        "facts": _facts(forecast),
        "nodeCount": int(forecast.get("nodeCount", 0)),
        "lackingNodes": int(forecast.get("lackingNodes", 0)),
        "fetchingNodes": int(forecast.get("fetchingNodes", 0)),
        "egressBytes": int(forecast.get("egressBytes", 0)),
        "nodes": [_node(each) for each in forecast.get("nodes") or ()],
        "misses": list(forecast.get("misses") or ()),
    }


def verdict(forecast: Mapping[str, Any]) -> str:
    """Whether the model would come to be on all nodes that it is meant for, as far as it can be said."""
    if _word(forecast.get("reason", ""), "REASON_") or int(forecast.get("lackingNodes", 0)):
        return FAILS
    source_unknown = bool(forecast.get("sourceReason")) and not forecast.get("listed")
    rooms = [_word(node.get("room", ""), "ROOM_VERDICT_") for node in forecast.get("nodes") or ()]
    listing = bool((forecast.get("artifact") or {}).get("digest"))
    return UNKNOWN if source_unknown or (listing and not all(rooms)) else WORKS


def plan_lines(row: Mapping[str, Any], wide: bool, colour: bool) -> list[str]:
    """A forecast for a person."""
    change = "would be changed" if row["exists"] else "would be created"
    head = {WORKS: "Works", FAILS: "Fails", UNKNOWN: "Not all is known"}[row["verdict"]]
    lines = [f"{row['model']} {change}. {head}."]
    if row["reason"]:
        lines.append(f"{row['reason']}: {_sentence(row['message'])}")
    elif row["sourceMessage"]:
        lines.append(_sentence(row["sourceMessage"]))
    asked = f", asked with {row['credentials']}" if row["credentials"] else ""
    state = "listed a moment ago, so its host is allowed" if row["listed"] else "not listed"
    lines.append(f"Source     {row['source']}{asked}; {state}")
    if row["digest"]:
        lines.append(f"Revision   {row['revision'] or 'none'}")
        size = f"{shown_size(row['bytes'])} in {row['files']:,} files, {shown_size(row['diskBytes'])} on disk"
        lines += [
            f"Download   {size}",
            f"Whole      {row['whole']}",
            f"Facts      {_shown_facts(row['facts'])}",
        ]
    lines += [f"Note       {_sentence(remark)}" for remark in row["remarks"]]
    total = f"{row['nodeCount']:,}, of which {row['lackingNodes']:,} lack room"
    lines.append(f"Nodes      {total}")
    if row["digest"]:
        each = f"{row['fetchingNodes']:,} × {shown_size(row['bytes'])}"
        lines.append(f"Egress     at most {shown_size(row['egressBytes'])} from the source ({each})")
    if row["nodes"]:
        shown = [_shown_node(node) for node in row["nodes"]]
        lines += ["", table(shown, _NODE_COLUMNS, wide, colour)]
    if more := row["nodeCount"] - len(row["nodes"]):
        lines.append(f"and {more:,} more nodes")
    return lines + ([""] if row["misses"] else []) + list(row["misses"])


def _node(said: Mapping[str, Any]) -> dict[str, Any]:
    refs: Sequence[Mapping[str, Any]] = said.get("evictable") or ()
    return {
        "node": said["node"],
        "room": _word(said.get("room", ""), "ROOM_VERDICT_").lower() or _NOT_TOLD,
        "root": said.get("root", ""),
        "totalBytes": int(said.get("totalBytes", 0)),
        "freeBytes": int(said.get("freeBytes", 0)),
        "reservedBytes": int(said.get("reservedBytes", 0)),
        "overWatermark": bool(said.get("overWatermark")),
        "evictable": ["/".join(filter(None, (ref.get("namespace", ""), ref["name"]))) for ref in refs],
        "evictableBytes": int(said.get("evictableBytes", 0)),
        "bytesPerSecond": int(said.get("bytesPerSecond", 0)),
        "seconds": int(said.get("seconds", 0)) or None,
    }


def _shown_node(node: Mapping[str, Any]) -> dict[str, Any]:
    is_told = bool(node["totalBytes"])
    there = node["room"] == "held"
    return {
        "node": node["node"],
        "room": _ROOMS.get(node["room"].upper(), _NOT_TOLD),
        "free": shown_size(node["freeBytes"]) if is_told else "",
        "reserved": shown_size(node["reservedBytes"]) if is_told else "",
        "size": shown_size(node["totalBytes"]) if is_told else "",
        "watermark": "above" if node["overWatermark"] else "below" if is_told and not there else "",
        "evictable": ", ".join(node["evictable"]),
        "time": "" if there else shown_duration(node["seconds"]) if node["seconds"] else _NOT_TOLD,
        "root": node["root"],
    }


def _facts(forecast: Mapping[str, Any]) -> dict[str, Any]:
    """What the model is; only a problem where that is not known."""
    said = forecast.get("facts") or {"problem": "the source was not listed"}
    if said.get("problem"):
        return {"problem": said["problem"]}
    return {
        "architecture": said.get("architecture", ""),
        "modelType": said.get("modelType", ""),
        "parameters": int(said.get("parameters", 0)),
        "parametersExact": bool(said.get("parametersExact")),
        "parameterSize": said.get("parameterSize", ""),
        "contextLength": int(said.get("contextLength", 0)),
        "quantization": said.get("quantization", ""),
        "dtype": said.get("dtype", ""),
        "capabilities": list(said.get("capabilities") or ()),
        "format": said.get("format", ""),
        "weightBytes": int(said.get("weightBytes", 0)),
    }


def _shown_facts(facts: Mapping[str, Any]) -> str:
    if "problem" in facts:
        return f"{_NOT_TOLD}: {facts['problem']}"
    count = facts["parameters"]
    about = "" if facts["parametersExact"] else "about "
    weights = facts["weightBytes"]
    parts = (
        facts["architecture"] or facts["modelType"],
        f"{about}{count:,} parameters" if count else "",
        f"context {facts['contextLength']:,}" if facts["contextLength"] else "",
        facts["dtype"],
        f"quantized by {facts['quantization']}" if facts["quantization"] else "",
        f"{shown_size(weights)} of weights" if weights else "",
        ", ".join(facts["capabilities"]),
    )
    return "; ".join(filter(None, parts)) or f"{_NOT_TOLD}: the configuration tells none"


def _wholeness(forecast: Mapping[str, Any]) -> str:
    completeness = forecast.get("completeness") or {}
    word = _WHOLE.get(completeness.get("wholeness", ""), _NOTHING_MISSING if forecast.get("listed") else _NOT_TOLD)
    defects = "; ".join(defect["message"] for defect in completeness.get("defects") or ())
    return f"{word}: {defects}" if defects else word


def _shown(manifest: Mapping[str, Any]) -> str:
    metadata = manifest["metadata"]
    return f"{manifest['kind']} {'/'.join(filter(None, (metadata.get('namespace', ''), metadata['name'])))}"


def _word(value: str, prefix: str) -> str:
    """A value of an enum in CamelCase if it is a reason, or else without its prefix; empty for the unspecified one."""
    name = value.removeprefix(prefix)
    if name in ("", "UNSPECIFIED"):
        return ""
    return "".join(part.capitalize() for part in name.split("_")) if prefix == "REASON_" else name


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."

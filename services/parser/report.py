"""Fits an InspectionReport into the termination message of a container. Pure."""

import json
from typing import Any

from google.protobuf.json_format import MessageToDict

from ome.model.v1.model_pb2 import REASON_PARSE_FAILED
from ome.parser.v1.parser_pb2 import Finding, InspectionReport

# Of a longer message the kubelet keeps the end, which is of no use (terminationMessagePath in the Pod's API).
MAX_BYTES = 4096
# Each character may take six bytes.
_MAX_SENTENCE = 600
# What may be long, in the order in which it can be done without. Real models stay below a quarter of the room.
_DISPENSABLE = (
    "modules",
    "warnings",
    "components",
    "bytesByDtype",
    "adapter",
    "remarks",
    "capabilities",
    "apiCapabilities",
)
# Of why a model is incomplete there is room for so much.
_MAX_DEFECTS = 2
_TOO_LONG = Finding(
    reason=REASON_PARSE_FAILED, message="the configuration holds names that are too long for what they name"
)


def encode_report(report: InspectionReport) -> bytes:
    """The report as JSON of at most MAX_BYTES. Facts that do not fit are left out, and a warning names them."""
    document = MessageToDict(report)
    for name in ("problem", "parseProblem"):
        if name in document:
            document[name]["message"] = document[name].get("message", "")[:_MAX_SENTENCE]
    facts = document.get("facts", {})
    _shorten_defects(facts)
    left_out = []
    for name in _DISPENSABLE:
        if len(_json(document)) > MAX_BYTES and name in facts:
            del facts[name]
            left_out.append(name)
            facts["warnings"] = [f"Left out, as a container's last message has little room: {', '.join(left_out)}."]
    if len(_json(document)) > MAX_BYTES:
        return encode_report(InspectionReport(bytes=report.bytes, files=report.files, parse_problem=_TOO_LONG))
    return _json(document)


def _shorten_defects(facts: dict[str, Any]) -> None:
    for defect in (defects := facts.get("completeness", {}).get("defects", []))[:_MAX_DEFECTS]:
        defect["message"] = defect["message"][: _MAX_SENTENCE // _MAX_DEFECTS]
        defect.pop("files", None)
    del defects[_MAX_DEFECTS:]


def _json(document: dict[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()

"""Findings between their word, as warnings have it, and their number, as our messages have it; verdicts too. Pure."""

from collections.abc import Mapping
from typing import cast

from libs.artifact.completeness import Verdict
from libs.artifact.findings import Finding, Remark
from libs.artifact.uri import PATTERNS, allows_incomplete
from ome.model.v1 import model_pb2

_NUMBERS = {each: cast("model_pb2.Finding", model_pb2.Finding.Value(f"FINDING_{each.name}")) for each in Finding}
_FINDINGS = {number: each for each, number in _NUMBERS.items()}
_WHOLENESS: dict[bool | None, model_pb2.Wholeness] = {
    None: model_pb2.WHOLENESS_UNSPECIFIED,
    True: model_pb2.WHOLENESS_WHOLE,
    False: model_pb2.WHOLENESS_INCOMPLETE,
}


def remark_message(remark: Remark) -> model_pb2.Remark:
    """A remark as our messages have it."""
    return model_pb2.Remark(finding=_NUMBERS[remark.finding], message=remark.message, files=remark.files)


def completeness_message(verdict: Verdict) -> model_pb2.Completeness:
    """A verdict as our messages have it, without its doubts."""
    defects = [remark_message(defect) for defect in verdict.defects]
    return model_pb2.Completeness(wholeness=_WHOLENESS[verdict.whole], defects=defects)


def finding_word(number: model_pb2.Finding) -> str:
    """The word of a finding; that of an odd file for one newer than this process."""
    return _FINDINGS.get(number, Finding.ODD_FILE)


def is_refused(completeness: model_pb2.Completeness, parameters: Mapping[str, str]) -> bool:
    """Whether a model is known to be incomplete, and its storage.parameters do not have it used all the same.

    Who chooses files by patterns, and chooses no weights, wants none.
    """
    if completeness.wholeness != model_pb2.WHOLENESS_INCOMPLETE or allows_incomplete(parameters):
        return False
    chosen = any(parameters.get(name, "").strip() for name in PATTERNS)
    return not (chosen and all(each.finding == model_pb2.FINDING_NO_WEIGHTS for each in completeness.defects))


def defects_sentence(completeness: model_pb2.Completeness) -> str:
    """All defects of a model in one sentence."""
    return "; ".join(defect.message for defect in completeness.defects)

"""Whether a model is whole, as its status tells it, and what else is odd about its files, for .status.warnings.

Both are known once per artifact, from the listing and from the parser; what was told of an artifact stays told while
nobody says it. Judges nothing about the files themselves. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from libs.artifact.findings import Finding
from libs.artifact.reasons import Reason
from libs.artifact.wording import one_line
from libs.model.findings import defects_sentence, finding_word
from ome.fetch.v1.fetch_pb2 import ModelPlan
from ome.model.v1 import model_pb2
from ome.model.v1.model_pb2 import Completeness
from ome.parser.v1.parser_pb2 import ModelFacts
from services.status import wording
from services.status.conditions import Judgement, Situation

WARNINGS_LIMIT = 16
MESSAGE_LIMIT = 1024


def judge_whole(
    situation: Situation, plan: ModelPlan | None, facts: ModelFacts | None, kept: bool, previous: Mapping[str, Any]
) -> Judgement:
    """Status, reason and message of the condition Whole.

    kept says that what was told before is about the same files.
    """
    for said in (facts.completeness if facts else Completeness(), plan.completeness if plan else Completeness()):
        if said.wholeness == model_pb2.WHOLENESS_INCOMPLETE:
            offered = any(each.node in situation.ready and not each.revising for each in situation.desired)
            used = wording.USED_ALTHOUGH_INCOMPLETE if offered or situation.found_in else ""
            return "False", Reason.INCOMPLETE, wording.sentence(defects_sentence(said)) + used
        if said.wholeness == model_pb2.WHOLENESS_WHOLE:
            return "True", "Whole", wording.WHOLE
    if situation.obstacle and situation.obstacle.reason == Reason.INCOMPLETE:
        return "False", Reason.INCOMPLETE, situation.obstacle.message
    for node in situation.desired:
        if node.reason == model_pb2.REASON_INCOMPLETE:
            return "False", Reason.INCOMPLETE, wording.sentence(node.message)
    if facts:
        return "Unknown", "Unproven", wording.UNPROVEN
    if kept:
        for condition in previous.get("conditions") or []:
            if condition["type"] == "Whole":
                return condition["status"], condition["reason"], condition["message"]
    return "Unknown", "Pending", wording.NOT_JUDGED


def warnings_document(
    plan: ModelPlan | None, facts: ModelFacts | None, kept: bool, previous: Mapping[str, Any]
) -> list[dict[str, str]]:
    """The remarks of listing, choice of files and parser, each once; kept is as in judge_whole."""
    found = list(_remarks(plan, facts))
    if kept or plan is None:
        found += previous.get("warnings") or []
    unique = {(each["reason"], each["message"]): each for each in found}
    return list(unique.values())[:WARNINGS_LIMIT]


def _remarks(plan: ModelPlan | None, facts: ModelFacts | None) -> Iterator[dict[str, str]]:
    said: Sequence[model_pb2.Remark] = (*(plan.warnings if plan else ()), *(facts.remarks if facts else ()))
    for remark in said:
        yield _warning(finding_word(remark.finding), remark.message)
    for message in facts.warnings if facts else ():
        yield _warning(Finding.ODD_FILE, message)


def _warning(reason: str, message: str) -> dict[str, str]:
    return {"reason": str(reason), "message": one_line(wording.sentence(message), MESSAGE_LIMIT)}

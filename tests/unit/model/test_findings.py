"""Findings and verdicts as our messages have them."""

import pytest

from libs.artifact.completeness import Verdict
from libs.artifact.findings import Finding, remark
from libs.model.findings import completeness_message, defects_sentence, finding_word, remark_message
from ome.model.v1 import model_pb2


def test_words_and_numbers_of_findings_are_one_list() -> None:
    numbers = {remark_message(remark(finding, "x")).finding for finding in Finding}
    assert numbers == set(model_pb2.Finding.values()) - {0}
    for finding in Finding:
        number = remark_message(remark(finding, "x")).finding
        assert finding_word(number) == finding
        name = model_pb2.Finding.Name(number).removeprefix("FINDING_")
        assert finding == "".join(part.capitalize() for part in name.split("_"))


def test_a_finding_of_a_newer_service_is_an_odd_file() -> None:
    assert finding_word(model_pb2.Remark.FromString(b"\x08\xe7\x07").finding) == "OddFile"


@pytest.mark.parametrize(
    ("whole", "wholeness"),
    [
        (None, model_pb2.WHOLENESS_UNSPECIFIED),
        (True, model_pb2.WHOLENESS_WHOLE),
        (False, model_pb2.WHOLENESS_INCOMPLETE),
    ],
)
def test_a_verdict_is_told_with_its_defects(whole: bool | None, wholeness: model_pb2.Wholeness) -> None:
    defects = (remark(Finding.EMPTY_FILE, "a is empty", ["a"]), remark(Finding.NO_WEIGHTS, "there are no weights"))
    message = completeness_message(Verdict(whole, defects))
    assert message.wholeness == wholeness
    assert defects_sentence(message) == "a is empty; there are no weights"
    assert list(message.defects[0].files) == ["a"]

"""Whatever a stranger publishes, the parser answers with facts or with a reason, quickly."""

import time
from typing import Any

from hypothesis import HealthCheck, given, settings

from ome.parser.v1.parser_pb2 import ModelFacts
from services.parser.errors import INCOMPLETE, INVALID_LISTING, NO_CONFIG, PARSE_FAILED, ParseError
from services.parser.parsing import parse_files
from tests.support.hostile_models import File, configurations, directories
from tests.support.safetensors_files import json_file

REASONS = {NO_CONFIG, PARSE_FAILED, INVALID_LISTING, INCOMPLETE}
_SECONDS = 2.0
FEW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def answer(files: list[File]) -> ModelFacts | str:
    # CPU time, which other processes do not change.
    begun = time.thread_time()
    try:
        return parse_files(files)
    except ParseError as error:
        refusal = error
    finally:
        assert time.thread_time() - begun < _SECONDS
    assert refusal.reason in REASONS
    assert 0 < len(refusal.message) < 1000
    return refusal.reason


@FEW
@given(directories())
def test_any_directory_yields_facts_or_a_reason(files: list[File]) -> None:
    answer(files)


@FEW
@given(configurations())
def test_any_values_in_a_known_architecture_yield_facts_or_a_reason(config: dict[str, Any]) -> None:
    found = answer([json_file("config.json", config)])
    if isinstance(found, ModelFacts):
        assert found.parameters.count >= 0
        assert found.active_parameters.count <= found.parameters.count
        assert found.SerializeToString() == answer([json_file("config.json", config)]).SerializeToString()  # type: ignore[union-attr]

"""How the plugin shows what would come of a manifest."""

from typing import Any

import pytest

from clients.kubectl.plans import FAILS, UNKNOWN, WORKS, plan_lines, plan_row, verdict

MANIFEST = {"kind": "BaseModel", "metadata": {"name": "llama", "namespace": "team-a"}}
GIB = 1 << 30
FORECAST: dict[str, Any] = {
    "source": "hf://org/llama",
    "credentials": "Secret team-a/hf, key token",
    "listed": True,
    "artifact": {"digest": "sha256:1", "sourceRevision": "c0ffee", "bytes": str(16 * GIB), "files": "17"},
    "files": [{"path": "model.safetensors", "bytes": str(16 * GIB)}],
    "diskBytes": str(16 * GIB),
    "nodeCount": "3",
    "fetchingNodes": "2",
    "egressBytes": str(32 * GIB),
    "nodes": [
        {
            "node": "node-1",
            "room": "ROOM_VERDICT_EVICTS",
            "totalBytes": str(100 * GIB),
            "freeBytes": str(10 * GIB),
            "overWatermark": True,
            "evictable": [{"name": "old"}],
            "evictableBytes": str(20 * GIB),
        },
        {"node": "node-2", "room": "ROOM_VERDICT_FITS", "bytesPerSecond": str(GIB), "seconds": "16"},
        {"node": "node-3", "room": "ROOM_VERDICT_HELD"},
    ],
    "facts": {
        "architecture": "LlamaForCausalLM",
        "parameters": "8030261248",
        "parametersExact": True,
        "parameterSize": "8B",
        "contextLength": "131072",
        "quantization": "fp8",
        "capabilities": ["VISION"],
        "weightBytes": str(15 * GIB),
    },
    "misses": ["Not chosen: node node-4 lacks gpu=H100."],
}
EXPECTED = """
BaseModel team-a/llama would be created. Works.
Source     hf://org/llama, asked with Secret team-a/hf, key token; listed a moment ago, so its host is allowed
Revision   c0ffee
Download   16 GiB in 17 files, 16 GiB on disk
Whole      nothing is missing, by its names and indexes
Facts      LlamaForCausalLM; 8,030,261,248 parameters; context 131,072; quantized by fp8; 15 GiB of weights; VISION
Nodes      3, of which 0 lack room
Egress     at most 32 GiB from the source (2 × 16 GiB)

NODE     ROOM                   FREE     RESERVED   SIZE      WATERMARK   MAY BE EVICTED   TIME
node-1   fits after evictions   10 GiB   0 bytes    100 GiB   above       old              unknown
node-2   fits                   -        -          -         -           -                16 seconds
node-3   is there               -        -          -         -           -                -

Not chosen: node node-4 lacks gpu=H100.
"""


def test_a_person_reads_what_it_costs_node_by_node() -> None:
    text = "\n".join(plan_lines(plan_row(MANIFEST, FORECAST), wide=False, colour=False))
    assert text == EXPECTED.strip("\n")


def test_a_program_reads_numbers_and_words() -> None:
    row = plan_row(MANIFEST, FORECAST)
    assert (row["bytes"], row["egressBytes"]) == (16 * GIB, 32 * GIB)
    assert row["facts"]["parameters"] == 8_030_261_248
    assert row["facts"]["capabilities"] == ["VISION"]
    assert [node["room"] for node in row["nodes"]] == ["evicts", "fits", "held"]
    assert [node["seconds"] for node in row["nodes"]] == [None, 16, None]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, WORKS),
        ({"reason": "REASON_NO_MATCHING_NODE"}, FAILS),
        ({"lackingNodes": "1"}, FAILS),
        ({"listed": False, "sourceReason": "REASON_UNAVAILABLE"}, UNKNOWN),
        ({"nodes": [{"node": "node-1"}]}, UNKNOWN),
    ],
)
def test_a_script_is_told_whether_it_would_work(change: dict[str, Any], expected: str) -> None:
    assert verdict({**FORECAST, **change}) == expected


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        (
            {"problem": "the parser did not answer within 4 seconds"},
            "unknown: the parser did not answer within 4 seconds",
        ),
        ({"modelType": "new", "parameters": "7000000000"}, "new; about 7,000,000,000 parameters"),
        ({}, "unknown: the source was not listed"),
        ({"format": "safetensors"}, "unknown: the configuration tells none"),
    ],
)
def test_facts_are_told_as_far_as_they_are_known(facts: dict[str, Any], shown: str) -> None:
    lines = plan_lines(plan_row(MANIFEST, {**FORECAST, "facts": facts}), wide=False, colour=False)
    assert f"Facts      {shown}" in lines


def test_a_cause_is_told_by_its_word_and_sentence() -> None:
    row = plan_row(MANIFEST, {"reason": "REASON_SECRET_NOT_FOUND", "message": "Secret team-a/hf does not exist"})
    lines = plan_lines(row, wide=False, colour=False)
    assert lines[:2] == [
        "BaseModel team-a/llama would be created. Fails.",
        "SecretNotFound: Secret team-a/hf does not exist.",
    ]

"""Compares the parser's facts with a corpus of known answers: python -m tests.bench.accuracy CORPUS.

CORPUS holds cases/<id>/ and manifest.jsonl. Prints a table per family, the false claims and the goals; exits 1
when a goal is missed or a claim is false.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ome.parser.v1.parser_pb2 import CERTAINTY_EXACT, COUNT_SOURCE_HEADERS, ModelFacts
from services.parser.errors import ParseError
from services.parser.inspection import read_files
from services.parser.parsing import parse_files

# The corpus has one word for what our closed list divides.
_CAPABILITIES = {
    "TEXT_GENERATION": "text-generation",
    "IMAGE_TEXT_TO_TEXT": "vision-language",
    "AUDIO_TEXT_TO_TEXT": "audio",
    "SPEECH_TO_TEXT": "audio",
    "TEXT_TO_SPEECH": "audio",
    "AUDIO": "audio",
    "EMBEDDING": "embedding",
    "RERANK": "rerank",
    "REWARD": "reward",
    "CLASSIFICATION": "classification",
    "VISION": "vision",
    "FILL_MASK": "fill-mask",
    "DRAFT_MODEL": "draft-model",
    "TEXT_TO_IMAGE": "image-generation",
    "IMAGE_TEXT_TO_IMAGE": "image-generation",
    "TEXT_TO_VIDEO": "video-generation",
    "IMAGE_TEXT_TO_VIDEO": "video-generation",
}

Oracle = dict[str, Any]


def _architecture(facts: ModelFacts, oracle: Oracle) -> bool:
    return facts.architecture == (oracle["architecture"] or "") and facts.model_type == (oracle["model_type"] or "")


def _framework(facts: ModelFacts, oracle: Oracle) -> bool:
    return (facts.framework, facts.framework_version) == (oracle["framework"], oracle["framework_version"] or "")


def _context(facts: ModelFacts, oracle: Oracle) -> bool:
    right = {oracle.get("max_context") or 0, oracle.get("max_context_serving") or 0}
    return facts.context_length in right and facts.usable_context_length in right


def _dtype(facts: ModelFacts, oracle: Oracle) -> bool:
    # Where no configuration states it, what is stored may still tell.
    return not oracle.get("dtype") or facts.dtype == oracle["dtype"]


def _quantization(facts: ModelFacts, oracle: Oracle) -> bool:
    expected = oracle.get("quantization")
    if not expected:
        return not facts.HasField("quantization")
    ours = facts.quantization
    bits, form = expected.get("expected_bits", expected.get("bits")), expected.get("expected_format")
    if not isinstance(bits, int | float):
        bits = 0
    return (
        ours.method == expected["method"] and ours.bits == (bits or ours.bits) and ours.format == (form or ours.format)
    )


def _capabilities(facts: ModelFacts, oracle: Oracle) -> bool:
    if oracle["capability_basis"] == "model-card":
        return True
    return {_CAPABILITIES[word] for word in facts.capabilities} == set(oracle["capabilities"])


def _active(facts: ModelFacts, oracle: Oracle) -> bool:
    return not oracle.get("params_active") or facts.active_parameters.count == oracle["params_active"]


def _adapter(facts: ModelFacts, oracle: Oracle) -> bool:
    expected = oracle.get("adapter")
    if not expected:
        return not facts.HasField("adapter")
    ours, targets = facts.adapter, expected["target_modules"]
    return (ours.type, ours.rank, ours.alpha, ours.base_model, set(ours.target_modules)) == (
        expected["peft_type"],
        expected["r"],
        expected["lora_alpha"],
        expected["base_model"],
        {targets} if isinstance(targets, str) else set(targets),
    )


def _cache(facts: ModelFacts, oracle: Oracle) -> bool:
    expected = oracle.get("kv_cache_bytes_per_token")
    return not expected or facts.kv_cache_bytes_per_token == expected


_FACTS: dict[str, tuple[Callable[[ModelFacts, Oracle], bool], float]] = {
    "architecture": (_architecture, 0.99),
    "framework": (_framework, 0.99),
    "context": (_context, 0.99),
    "dtype": (_dtype, 0.99),
    "quantization": (_quantization, 0.95),
    "capabilities": (_capabilities, 0.97),
    "active": (_active, 0.95),
    "adapter": (_adapter, 0.99),
    "cache": (_cache, 0.95),
}
_FALSE_CLAIMS = (
    "exact, from the configuration",
    "exact, from headers",
    "range that misses",
    "active parameters called exact",
    "cache bytes called exact",
)


def _judge(facts: ModelFacts, oracle: Oracle) -> str:
    """One of exact, near (1 %), close (2 %), wrong, or unscored."""
    ours = facts.parameters.count
    published = (oracle.get("published_checkpoint") or {}).get("value")
    right = {oracle.get("params_total"), published} - {None}
    if oracle["exact"]:
        if ours in right:
            return "exact"
        off = min(abs(ours - int(value)) / int(value) for value in right if value)
    elif oracle.get("range"):
        low, high = oracle["range"]
        off = 0.0 if low <= ours <= high else min(abs(ours - low) / low, abs(ours - high) / high)
    else:
        return "unscored"
    return "near" if off <= 0.01 else "close" if off <= 0.02 else "wrong"


def _false_claims(facts: ModelFacts, oracle: Oracle) -> list[str]:
    """What is claimed and not so: a count without a proof is no exact one, however near it is."""
    claims = []
    ours = facts.parameters
    published = (oracle.get("published_checkpoint") or {}).get("value")
    right = {oracle.get("params_total"), published} - {None}
    if ours.exact and not (oracle["exact"] and ours.count in right):
        claims.append(_FALSE_CLAIMS[ours.source == COUNT_SOURCE_HEADERS])
    if ours.maximum:
        truths = [int(value) for value in oracle.get("range") or right if value]
        if truths and (max(truths) < ours.minimum or min(truths) > ours.maximum):
            claims.append("range that misses")
    active = facts.active_parameters
    if active.exact and not _active(facts, oracle):
        claims.append("active parameters called exact")
    if facts.kv_cache_certainty == CERTAINTY_EXACT and not _cache(facts, oracle):
        claims.append("cache bytes called exact")
    return claims


def main(corpus: Path) -> int:
    """Print the table; returns the exit code."""
    answers = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    facts: dict[str, ModelFacts] = {}
    refused, crashed = {}, {}
    for case in sorted((corpus / "cases").iterdir()):
        try:
            facts[case.name] = parse_files(read_files(str(case)))
        except ParseError as error:
            refused[case.name] = error.message
        except Exception as error:
            crashed[case.name] = repr(error)

    families: dict[str, Counter[str]] = defaultdict(Counter)
    wrong: list[str] = []
    false: Counter[str] = Counter()
    published: Counter[str] = Counter()
    for answer in answers:
        oracle, ours = answer["oracle"], facts.get(answer["id"], ModelFacts())
        verdict = _judge(ours, oracle)
        row = families[answer["family"]]
        row["cases"] += 1
        row[verdict] += 1
        row["expected exact"] += oracle["exact"]
        claims = _false_claims(ours, oracle)
        false.update(claims)
        row["proven"] += ours.parameters.exact and not claims
        published["cases"] += answer["config_quality"] == "full" and oracle["exact"]
        published["proven"] += answer["config_quality"] == "full" and verdict == "exact" and ours.parameters.exact
        wrong.extend(f"{answer['id']}: {claim}: {_shown(ours, 'claim')}" for claim in claims)
        if (verdict in ("near", "close", "wrong") and oracle["exact"]) or verdict == "wrong":
            wrong.append(f"{answer['id']}: parameters {ours.parameters.count}, expected {oracle.get('params_total')}")
        for name, (right, _) in _FACTS.items():
            if right(ours, oracle):
                row[name] += 1
            else:
                wrong.append(f"{answer['id']}: {name}: {_shown(ours, name)}")
    codes = _report_files(refused, crashed, len(facts)), _report(families, wrong, false, published)
    return max(codes)


def _shown(facts: ModelFacts, name: str) -> str:
    return {
        "architecture": f"{facts.architecture} {facts.model_type}",
        "framework": f"{facts.framework} {facts.framework_version}",
        "context": f"{facts.context_length} {facts.usable_context_length}",
        "dtype": facts.dtype,
        "quantization": f"{facts.quantization.method} {facts.quantization.bits}",
        "capabilities": " ".join(facts.capabilities),
        "active": str(facts.active_parameters.count),
        "adapter": " ".join(str(facts.adapter).split()),
        "cache": str(facts.kv_cache_bytes_per_token),
        "claim": f"{facts.parameters.count} ({facts.parameters.minimum} to {facts.parameters.maximum})",
    }[name]


def _report(families: dict[str, Counter[str]], wrong: list[str], false: Counter[str], published: Counter[str]) -> int:
    columns = ("cases", "proven", "exact", "near", "close", "wrong", "unscored", *_FACTS)
    print(f"{'family':22}" + "".join(f"{name[:10]:>11}" for name in columns))
    total: Counter[str] = Counter()
    for family, row in sorted(families.items()):
        total.update(row)
        print(f"{family:22}" + "".join(f"{row[name]:>11}" for name in columns))
    print(f"{'all':22}" + "".join(f"{total[name]:>11}" for name in columns))
    for line in wrong:
        print(f"  {line}")
    print("false claims")
    for claim in _FALSE_CLAIMS:
        print(f"  {claim:40}{false[claim]:>4}")
    goals = {
        "parameters exact": (total["exact"] / max(total["expected exact"], 1), 0.6),
        "published proven": (published["proven"] / max(published["cases"], 1), 0.6),
    }
    goals |= {name: (total[name] / max(total["cases"], 1), goal) for name, (_, goal) in _FACTS.items()}
    for name, (reached, goal) in goals.items():
        print(f"{name:18}{reached:8.1%}  goal {goal:.0%}  {'ok' if reached >= goal else 'MISSED'}")
    return 1 if false.total() or any(reached < goal for reached, goal in goals.values()) else 0


def _report_files(refused: dict[str, str], crashed: dict[str, str], parsed: int) -> int:
    for name, message in (refused | crashed).items():
        print(f"  {name}: {message}")
    print(f"parsed {parsed}, refused {len(refused)}, crashed {len(crashed)}")
    return 1 if crashed else 0


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("corpus", type=Path, help="folder of configurations with answers")
    sys.exit(main(options.parse_args().corpus))

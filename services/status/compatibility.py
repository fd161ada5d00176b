"""Judges whether the weights of a FineTunedWeight fit the base model that it names.

Goes by the facts of both as .status.metadata has them, and by the repository that the base comes from. True and False
are said only of what the files prove: the widths of modules, the class of the model, the name that the weights give.
Pure.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from libs.artifact.reasons import Reason
from libs.artifact.wording import one_line
from services.status.conditions import Judgement

ADAPTER, MERGED = "Adapter", "Merged"

_REPOSITORY = re.compile(r"(?:hf|ms)://([^@]+)(?:@.*)?")
# What may be a repository of a hub; a path on the disk of whoever trained is none.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
# Their widths follow the vocabulary, to which people add words.
_OF_THE_VOCABULARY = frozenset(("embed_tokens", "lm_head", "wte", "word_embeddings", "embed_out", "shared"))


def weights_word(facts: Mapping[str, Any]) -> str:
    """What a FineTunedWeight with these facts is: ADAPTER, MERGED, or empty while nothing is known."""
    if not facts:
        return ""
    return ADAPTER if facts.get("adapter") else MERGED


def judge_fit(facts: Mapping[str, Any], base: Mapping[str, Any], base_uri: str, shown_base: str) -> Judgement:
    """Status, reason and message of the condition Compatible.

    facts are those of the weights, base those of the base, either empty while unknown; shown_base is the base as
    people name it.
    """
    if not facts:
        return "Unknown", "Pending", "The files of the weights have not been parsed yet."
    if base.get("adapter"):
        return _wrong(f"{shown_base} is itself an adapter, which no other weights can adapt")
    if weights_word(facts) == MERGED:
        return _judge_merged(facts, base, shown_base)
    return _judge_adapter(facts, base, base_uri, shown_base)


def _judge_merged(facts: Mapping[str, Any], base: Mapping[str, Any], shown_base: str) -> Judgement:
    if not base:
        return _base_unknown(shown_base)
    for name in ("modelType", "architecture"):
        if facts.get(name) and base.get(name):
            if facts[name] != base[name]:
                return _wrong(f"the weights are a whole model of {facts[name]}, and {shown_base} is {base[name]}")
            break
    else:
        return "Unknown", "Unproven", f"The weights are a whole model; nothing tells whether {shown_base} is its base."
    if different := _different(_modules(facts), _modules(base), missing_differs=False):
        return _wrong(f"the weights are a whole model, in which {different} of {shown_base}")
    return "True", "MergedWeights", "The weights are a whole model of the base's kind. Serve them without the base."


def _judge_adapter(facts: Mapping[str, Any], base: Mapping[str, Any], base_uri: str, shown_base: str) -> Judgement:
    adapter, modules = facts["adapter"], _modules(facts)
    described = _described(adapter, modules)
    named, source = adapter.get("baseModel", ""), _REPOSITORY.fullmatch(base_uri)
    is_name = _NAME.fullmatch(named) is not None
    same_name = bool(is_name and source and named.lower() == source[1].lower())
    if different := _different(modules, _modules(base), missing_differs=True):
        return _wrong(f"the weights are {described}, and {different} of {shown_base}")
    fits = _fits(modules, _modules(base))
    if same_name:
        how = "and the widths of all modules fit" if fits else "by name; no header tells more"
        return "True", "BaseNamed", f"The weights are {described}. They name {named} as their base, {how}."
    if is_name and source:
        why = f"they name {named} as their base, and {shown_base} comes from {source[1]}"
        more = ". All modules fit, so one may be a copy of the other" if fits else ""
        return "Unknown", "OtherBaseNamed", f"The weights are {described}; {one_line(why + more, 600)}."
    if fits:
        return "True", "ModulesFit", f"The weights are {described}, all of which {shown_base} has with equal widths."
    if not base:
        return _base_unknown(shown_base)
    return "Unknown", "Unproven", f"The weights are {described}; no file tells whether {shown_base} is their base."


def _described(adapter: Mapping[str, Any], modules: Sequence[tuple[str, int, int]]) -> str:
    kind, rank = adapter.get("type") or "unknown kind", adapter.get("rank")
    names = list(dict.fromkeys(name for name, _, _ in modules)) or list(adapter.get("targetModules") or [])
    text = f"an adapter ({kind}{f', rank {rank}' if rank else ''})"
    return one_line(
        f"{text} of {', '.join(names[:8])}{' and others' if len(names) > 8 else ''}" if names else text, 300
    )


def _modules(facts: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    return [(each["name"], each.get("inputs", 0), each.get("outputs", 0)) for each in facts.get("modules") or []]


def _different(
    modules: Sequence[tuple[str, int, int]], base: Sequence[tuple[str, int, int]], *, missing_differs: bool
) -> str:
    """What proves that modules are not those of a base, as the middle of a sentence; empty if nothing does."""
    if not modules or not base:
        return ""
    widths = _widths(base)
    for name, *own in modules:
        if name in widths and name not in _OF_THE_VOCABULARY and sorted(own) not in widths[name]:
            theirs = " or ".join(" × ".join(map(str, each)) for each in widths[name][:3])
            return f"{name} is {' × '.join(map(str, sorted(own)))}, which is not the {theirs}"
    names = list(dict.fromkeys(name for name, _, _ in modules))
    # One that is missing may go by another name in the library than in the files; all of them do not.
    if missing_differs and not any(name in widths for name in names):
        return f"{', '.join(names[:3])} {'is no module' if len(names) == 1 else 'are no modules'}"
    return ""


def _fits(modules: Sequence[tuple[str, int, int]], base: Sequence[tuple[str, int, int]]) -> bool:
    widths = _widths(base)
    return bool(modules) and all(sorted(own) in widths.get(name, []) for name, *own in modules)


def _widths(modules: Sequence[tuple[str, int, int]]) -> dict[str, list[list[int]]]:
    # Some libraries store a matrix transposed, so the order of the two widths tells nothing.
    found: dict[str, list[list[int]]] = {}
    for name, *own in modules:
        found.setdefault(name, []).append(sorted(own))
    return found


def _wrong(why: str) -> Judgement:
    return "False", Reason.INCOMPATIBLE_BASE, f"{why[:1].upper()}{one_line(why[1:], 900)}."


def _base_unknown(shown_base: str) -> Judgement:
    return "Unknown", "Pending", f"The files of {shown_base} have not been parsed yet."

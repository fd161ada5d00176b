"""How nodes stand to the rules by which a model chooses them: each rule by itself, and which nodes came nearest.

The same judgement as placement's, taken apart for people; a test holds the two against each other. Pure.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libs.model.placement import holds, required_terms

# A message names so many groups of nodes, so many nodes of each, and so many rules that one of them fails.
_GROUPS_NAMED, _NODES_NAMED, _RULES_NAMED = 3, 3, 3
_VALUES_SHOWN = 4
_NAME_FIELD = "metadata.name"


@dataclass(frozen=True)
class Rule:
    """One requirement, and what a node has in its place.

    `term` is 0 for storage.nodeSelector, and otherwise the number of the term in storage.nodeAffinity, from 1 on.
    `found` is the value of the node's label; None if the node lacks it.
    """

    term: int
    key: str
    requirement: str
    satisfied: bool
    found: str | None = None

    @property
    def place(self) -> str:
        """Where the requirement stands in the model."""
        return f"storage.nodeAffinity, term {self.term}" if self.term else "storage.nodeSelector"

    @property
    def had(self) -> str:
        """What the node has, as the end of a sentence."""
        if not self.key:
            return "no node matches that"
        if self.key == _NAME_FIELD:
            return f"its name is {self.found}"
        return f"it has no label {self.key}" if self.found is None else f"it has {self.key}={self.found}"

    def __str__(self) -> str:
        return f"{self.place} asks for {self.requirement}: {'yes' if self.satisfied else 'no'}, {self.had}"


@dataclass(frozen=True)
class Group:
    """Nodes that fail the same rules; `found` is what the first of them has in the place of each."""

    nodes: tuple[str, ...]
    failing: tuple[Rule, ...]


def judge_rules(storage: Mapping[str, Any], node: str, labels: Mapping[str, str]) -> tuple[Rule, ...]:
    """Every rule of a model and how a node stands to it. The storage must pass check_placement.

    The node is meant for the model if all rules of term 0 are satisfied and, if there are further terms, all rules of
    one of these.
    """
    selector = storage.get("nodeSelector") or {}
    rules = [
        Rule(0, key, f"{key}={value}", labels.get(key) == value, labels.get(key)) for key, value in selector.items()
    ]
    terms = required_terms(storage)
    if terms is not None and not terms:
        rules.append(Rule(1, "", "one of no terms", False))
    for number, term in enumerate(terms or (), 1):
        rules += _rules_of_term(number, term, node, labels)
    return tuple(rules)


def missing_rules(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules that a node would still have to satisfy; of several terms those of the one that it comes nearest."""
    failing = [rule for rule in rules if rule.term == 0 and not rule.satisfied]
    by_term: dict[int, list[Rule]] = {}
    for rule in rules:
        if rule.term:
            missing = by_term.setdefault(rule.term, [])
            if not rule.satisfied:
                missing.append(rule)
    if by_term:
        nearest: list[Rule] = min(by_term.values(), key=len)
        failing += nearest
    return tuple(failing)


def group_misses(storage: Mapping[str, Any], nodes: Iterable[tuple[str, Mapping[str, str]]]) -> tuple[Group, ...]:
    """The nodes that are not meant for a model, by the rules that they fail: those that fail the fewest first."""
    members: defaultdict[tuple[tuple[int, str], ...], list[tuple[str, tuple[Rule, ...]]]] = defaultdict(list)
    for name, labels in sorted(nodes):
        if failing := missing_rules(judge_rules(storage, name, labels)):
            members[tuple((rule.term, rule.requirement) for rule in failing)].append((name, failing))
    groups = (Group(tuple(name for name, _ in group), group[0][1]) for group in members.values())
    return tuple(sorted(groups, key=lambda group: (len(group.failing), -len(group.nodes), group.nodes)))


def shown_group(group: Group, with_values: bool) -> str:
    """A group in words, such as "nodes a and b lack gpu=H100 (node a has gpu=T4)".

    with_values shows what the nodes have instead, which not everybody who may read a model may know.
    """
    wanted = [rule.requirement for rule in group.failing[:_RULES_NAMED]]
    if len(group.failing) > _RULES_NAMED:
        wanted.append(f"{len(group.failing) - _RULES_NAMED} more rules")
    shown = f"{_named(group.nodes)} {'lacks' if len(group.nodes) == 1 else 'lack'} {' and '.join(wanted)}"
    if with_values:
        first = group.nodes[0]
        has = [
            f"no label {rule.key}" if rule.found is None else f"{rule.key}={rule.found}"
            for rule in group.failing[:_RULES_NAMED]
            if rule.key and rule.key != _NAME_FIELD
        ]
        if has:
            shown += f" (node {first} has {' and '.join(has)})"
    return shown


def nearest_misses(groups: Sequence[Group], with_values: bool) -> str:
    """The groups that come nearest in one clause, of a bounded length; empty if there are none."""
    shown = "; ".join(shown_group(group, with_values) for group in groups[:_GROUPS_NAMED])
    rest = sum(len(group.nodes) for group in groups[_GROUPS_NAMED:])
    return shown + (f"; {rest:,} more {'node fails' if rest == 1 else 'nodes fail'} other rules" if rest else "")


def _rules_of_term(number: int, term: Mapping[str, Any], node: str, labels: Mapping[str, str]) -> Iterable[Rule]:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        yield Rule(number, "", "nothing, as the term is empty", False)
    for each in expressions:
        yield Rule(number, each["key"], _shown(each), holds(each, labels), labels.get(each["key"]))
    for each in fields:
        yield Rule(number, each["key"], _shown(each), holds(each, {_NAME_FIELD: node}), node)


def _shown(requirement: Mapping[str, Any]) -> str:
    key, operator, values = requirement["key"], requirement["operator"], list(requirement.get("values") or ())
    more = len(values) - _VALUES_SHOWN
    listed = ", ".join(values[:_VALUES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    match operator:
        case "In" if len(values) == 1:
            return f"{key}={listed}"
        case "In":
            return f"{key} in ({listed})"
        case "NotIn":
            return f"{key} not in ({listed})"
        case "Exists":
            return f"the label {key}"
        case "DoesNotExist":
            return f"no label {key}"
    return f"{key} {'>' if operator == 'Gt' else '<'} {listed}"


def _named(nodes: Sequence[str]) -> str:
    shown = list(nodes[:_NODES_NAMED])
    if len(nodes) == 1:
        return f"node {shown[0]}"
    if len(nodes) > _NODES_NAMED:
        return f"{len(nodes):,} nodes, among them {', '.join(shown)},"
    return f"nodes {', '.join(shown[:-1])} and {shown[-1]}"

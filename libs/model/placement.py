"""Which nodes a model is meant for: nodeSelector and nodeAffinity with the semantics of the Kubernetes scheduler.

One extension, promised to users: Gt and Lt compare quantities ("500Gi" > "1000Mi"). And one rule of our own: how much
room a node has decides whether it gets a model, and never whether it keeps one, for the model itself has taken of it.
Pure.
Source: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity
"""

import re
from collections.abc import Mapping, Sequence, Set
from fractions import Fraction
from typing import Any

from libs.artifact.errors import InvalidValue
from libs.artifact.labels import STORAGE_LABELS, is_model_label
from libs.artifact.reasons import Reason

_HOSTNAME = "kubernetes.io/hostname"
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITY = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3}|[numkMGTPE]|[KMGTPE]i)?", re.ASCII)
_SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}

_SELECTORS = ("nodeSelector", "nodeAffinity")


def parse_quantity(text: str) -> Fraction | None:
    """The value of a Kubernetes quantity, or None when text is none."""
    match = _QUANTITY.fullmatch(text)
    if not match:
        return None
    sign, digits, suffix = match.groups()
    value = Fraction(digits) * (-1 if sign == "-" else 1)
    if not suffix:
        return value
    if suffix in _SUFFIXES:
        return value * _SUFFIXES[suffix]
    return value * Fraction(10) ** int(suffix[1:])


def check_placement(storage: Mapping[str, Any]) -> None:
    """Refuse a nodeSelector or nodeAffinity that cannot be evaluated.

    Admission refuses most of it; this is for objects that were stored before. Raises InvalidValue with reason
    InvalidPlacement, also for a selector that names a label which OME writes: a model that follows the state of another
    would come and go with each of its repairs, and the controller does not even keep these labels.
    """
    own = sorted(filter(is_model_label, selected_keys(storage)))
    if own:
        raise _invalid(
            f"{own[0]} is a label that OME itself writes; select nodes by a label of your own, such as the one that "
            "the other model selects by"
        )
    for term in required_terms(storage) or ():
        for requirement in (*(term.get("matchExpressions") or ()), *(term.get("matchFields") or ())):
            _check_requirement(requirement)
        for field in term.get("matchFields") or ():
            if field.get("key") != "metadata.name":
                raise _invalid(f"matchFields can only test metadata.name, not {field.get('key')!r}")


def is_placed(storage: Mapping[str, Any], node: str, labels: Mapping[str, str], holds: bool = False) -> bool:
    """Whether a model with this storage is meant for a node. The storage must pass check_placement.

    A node that holds the model already is not asked for its room any more.
    """
    met = STORAGE_LABELS if holds else frozenset[str]()
    selector = storage.get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in selector.items() if key not in met):
        return False
    terms = required_terms(storage)
    return terms is None or any(_term_matches(term, node, labels, met) for term in terms)


def selects(storage: Mapping[str, Any]) -> bool:
    """Whether a storage says by itself which nodes are meant."""
    return any(storage.get(name) for name in _SELECTORS)


def placed_like(storage: Mapping[str, Any], base: Mapping[str, Any]) -> Mapping[str, Any]:
    """The storage of a weight that selects no nodes, with the selectors of the storage of its base, and with the
    base's tolerations unless it has its own.

    A base that lies in a claim, or that has no storage, is on no particular nodes: then every node gets the weight, as
    it would a base model without selectors.
    """
    if selects(storage) or (base.get("storageUri") or "").startswith("pvc://"):
        return storage
    own = {"tolerations": storage["tolerations"]} if "tolerations" in storage else {}
    return {**storage, **{name: base[name] for name in (*_SELECTORS, "tolerations") if name in base}, **own}


def selected_keys(storage: Mapping[str, Any]) -> frozenset[str]:
    """The labels of a node that decide whether a model with this storage is meant for it."""
    expressions = (each for term in required_terms(storage) or () for each in term.get("matchExpressions") or ())
    return frozenset((*(storage.get("nodeSelector") or {}), *(each["key"] for each in expressions)))


def names_node(storage: Mapping[str, Any], node: str) -> bool:
    """Whether a model asks for this very node, by its name or by the label that holds its name."""
    values = [(storage.get("nodeSelector") or {}).get(_HOSTNAME)]
    for term in required_terms(storage) or ():
        for requirement in (*(term.get("matchExpressions") or ()), *(term.get("matchFields") or ())):
            if requirement.get("key") in (_HOSTNAME, "metadata.name") and requirement.get("operator") == "In":
                values += requirement.get("values") or []
    return node in values


def required_terms(storage: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
    """The terms of the required node affinity; None when there is no required affinity, which matches every node."""
    required = (storage.get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return None
    terms: Sequence[Mapping[str, Any]] = required.get("nodeSelectorTerms") or ()
    return terms


def _term_matches(term: Mapping[str, Any], node: str, labels: Mapping[str, str], met: Set[str]) -> bool:
    expressions = term.get("matchExpressions") or ()
    fields = term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(each["key"] in met or holds(each, labels) for each in expressions) and all(
        holds(field, {"metadata.name": node}) for field in fields
    )


def holds(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether labels, or the fields of a node in their place, satisfy one requirement of a term."""
    key, operator, values = requirement["key"], requirement["operator"], requirement.get("values") or []
    match operator:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    have, bound = parse_quantity(labels.get(key, "")), parse_quantity(values[0])
    if have is None or bound is None:
        return False
    return have > bound if operator == "Gt" else have < bound


def _check_requirement(requirement: Mapping[str, Any]) -> None:
    key, operator, values = requirement.get("key"), requirement.get("operator"), requirement.get("values") or []
    match operator:
        case "In" | "NotIn":
            if not values:
                raise _invalid(f"{operator} on {key!r} needs at least one value")
        case "Exists" | "DoesNotExist":
            if values:
                raise _invalid(f"{operator} on {key!r} takes no values")
        case "Gt" | "Lt":
            if len(values) != 1 or parse_quantity(values[0]) is None:
                raise _invalid(f"{operator} on {key!r} needs exactly one number or quantity, such as '500Gi'")
        case _:
            raise _invalid(f"operator {operator!r} must be In, NotIn, Exists, DoesNotExist, Gt or Lt")


def _invalid(why: str) -> InvalidValue:
    return InvalidValue(Reason.INVALID_PLACEMENT, f"storage.nodeAffinity: {why}")

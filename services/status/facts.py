"""Facts of a model as Kubernetes sees them: the document of .status.metadata and the spec fields that may be filled.

Decides which spec fields are ours to write: those that the user left empty, and those that we filled before. Ownership
is read from metadata.managedFields, so nothing has to be remembered. Must not do I/O.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from ome.parser.v1.parser_pb2 import ModelFacts

FIELD_MANAGER = "ome-status"

_INT32_MAX = 2**31 - 1
# What is judged of the files has a condition and warnings of its own.
_NO_FACTS = ("completeness", "remarks")

Path = tuple[str, ...]


def _max_tokens(facts: ModelFacts) -> int:
    tokens = facts.usable_context_length or facts.context_length
    return tokens if tokens <= _INT32_MAX else 0


# The spec fields that are ever written, and what each says. guard.yaml of the chart has the API server refuse every
# other one; a test holds both together.
_SPEC_FACTS: dict[Path, Callable[[ModelFacts], Any]] = {
    ("modelType",): lambda facts: facts.model_type,
    ("modelArchitecture",): lambda facts: facts.architecture,
    # An estimate stays in .status.metadata, where its range stands beside it.
    ("modelParameterSize",): lambda facts: facts.parameter_size if facts.parameters.exact else "",
    ("maxTokens",): _max_tokens,
    ("modelCapabilities",): lambda facts: list(facts.capabilities),
    ("modelFormat", "name"): lambda facts: facts.format,
    ("modelFormat", "version"): lambda facts: facts.format and facts.format_version,
    ("modelFramework", "name"): lambda facts: facts.framework,
    ("modelFramework", "version"): lambda facts: facts.framework and facts.framework_version,
    ("quantization",): lambda facts: facts.quantization.spec_value,
}
FACT_FIELDS = tuple(_SPEC_FACTS)


def facts_document(facts: Message) -> dict[str, Any]:
    """Facts in the spelling of Kubernetes: camelCase, numbers as numbers, enums as words, nothing unstated."""
    document: dict[str, Any] = {}
    for field, value in facts.ListFields():
        if field.name in _NO_FACTS:
            continue
        if field.message_type and field.message_type.GetOptions().map_entry:
            document[field.json_name] = dict(sorted(value.items()))
        elif field.is_repeated:
            document[field.json_name] = [_plain(field, item) for item in value]
        else:
            document[field.json_name] = _plain(field, value)
    # "exact: false" is a statement, unlike an empty text.
    flags = (field for field in facts.DESCRIPTOR.fields if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL)
    document.update({flag.json_name: getattr(facts, flag.name) for flag in flags})
    return document


def spec_to_apply(model: Mapping[str, Any], facts: ModelFacts) -> dict[str, Any] | None:
    """The spec to apply as FIELD_MANAGER so that every free field states its fact; None when the object already does.

    A field is free when it is absent or when nobody but us owns it. Fields that the result leaves out are given up:
    the API server removes those that we alone had set.
    """
    if model["kind"] == "FineTunedWeight":
        # Its modelType is the method of tuning, which no parser knows, and it has no other field for facts.
        return None
    spec = model.get("spec") or {}
    ours, theirs = _owners(model)
    wanted: dict[Path, Any] = {}
    for path, fact in _SPEC_FACTS.items():
        value, present = fact(facts), _value(spec, path)
        if value and not _owns(theirs, path) and (present is None or _owns(ours, path)):
            wanted[path] = value
    for name in ("modelFormat", "modelFramework"):
        # A version that we know belongs to the name that we know, not to another that the user wrote.
        if (name, "name") not in wanted:
            wanted.pop((name, "version"), None)
    held = {path: _value(spec, path) for path in _leaves(ours)}
    return None if wanted == held else _nested(wanted)


def _plain(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type:
        return facts_document(value)
    if field.enum_type:
        # COUNT_SOURCE_HEADERS is "headers": the prefix of the enum's name is protobuf's need, not a reader's.
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", field.enum_type.name).upper() + "_"
        return field.enum_type.values_by_number[value].name.removeprefix(prefix).lower()
    return value


def _owners(model: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    ours: dict[str, Any] = {}
    theirs: list[dict[str, Any]] = []
    for entry in model["metadata"].get("managedFields") or []:
        if entry.get("subresource"):
            continue
        tree = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply":
            ours = tree
        else:
            theirs.append(tree)
    return ours, theirs


def _owns(trees: dict[str, Any] | list[dict[str, Any]], path: Path) -> bool:
    if isinstance(trees, list):
        return any(_owns(tree, path) for tree in trees)
    node = trees
    for part in path:
        if f"f:{part}" not in node:
            return False
        node = node[f"f:{part}"]
        if not node:
            return True
    return True


def _leaves(tree: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    # Beside "f:<field>" a tree holds "." for the object itself and "k:" or "v:" for the items of a list.
    fields = [key for key in tree if key.startswith("f:")]
    if not fields and path:
        yield path
    for key in fields:
        yield from _leaves(tree[key], (*path, key.removeprefix("f:")))


def _value(spec: Mapping[str, Any], path: Path) -> Any:
    value: Any = spec
    for part in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _nested(values: Mapping[Path, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for path, value in values.items():
        node = result
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = value
    return result

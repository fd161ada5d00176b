"""Refuses fields that do not exist, whoever applies them.

The API server drops a field that a schema does not know, and tells of it only those clients that ask for strictness:
kubectl does, most tools do not, and a misspelt storageUri would go unseen. So the definitions keep such fields until
admission, where the policies that are made here refuse them with the words that exist. They know exactly the fields of
the schemas, from which they are derived.
"""

from collections.abc import Iterator

from deploy.crd.schema import Schema

_PRESERVE = "x-kubernetes-preserve-unknown-fields"


def keep_until_admission(spec: Schema) -> Schema:
    """The schema of a spec that drops nothing, so that a policy sees what it would not know."""
    kept = {key: value for key, value in spec.items() if key not in ("properties", "items", "additionalProperties")}
    if "properties" in spec:
        kept[_PRESERVE] = True
        kept["properties"] = {name: keep_until_admission(field) for name, field in spec["properties"].items()}
    for inner in ("items", "additionalProperties"):
        if inner in spec:
            kept[inner] = keep_until_admission(spec[inner])
    return kept


def policy(name: str, plurals: list[str], spec: Schema) -> list[Schema]:
    """The policy and its binding that refuse fields outside of `spec` in objects of some kinds."""
    metadata = {"name": name, "labels": {"app.kubernetes.io/part-of": "ome"}}
    rules = [
        {"apiGroups": ["ome.io"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": plurals},
    ]
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata,
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": rules},
                "matchConditions": [
                    # As in admission.yaml: what was stored before must remain editable, and possible to delete.
                    {"name": "said-anew", "expression": "oldObject == null || object.spec != oldObject.spec"},
                    {"name": "not-being-deleted", "expression": "!has(object.metadata.deletionTimestamp)"},
                ],
                "variables": [
                    {"name": "known", "expression": f"[{', '.join(map(_quoted, _known(spec, 'spec')))}]"},
                    {"name": "unknown", "expression": " + ".join(_unknown(spec, "spec", "object.spec"))},
                ],
                "validations": [
                    {
                        "expression": "size(variables.unknown) == 0",
                        "message": "spec has a field that does not exist; kubectl explain lists those that do",
                        "messageExpression": "variables.unknown[0] + ' does not exist: ' + (variables.known.exists("
                        "name, name.lowerAscii() == variables.unknown[0].lowerAscii()) ? 'write ' + variables.known"
                        ".filter(name, name.lowerAscii() == variables.unknown[0].lowerAscii())[0]"
                        " : 'remove it, or write one that kubectl explain lists')",
                    },
                    *_member_rules(spec, "spec", "object.spec"),
                ],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata,
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    ]


def _known(schema: Schema, shown: str) -> Iterator[str]:
    """The fields of a structure and of the structures in it, as people write them."""
    for name, field in schema["properties"].items():
        yield f"{shown}.{name}"
        if "properties" in field:
            yield from _known(field, f"{shown}.{name}")


def _unknown(schema: Schema, shown: str, value: str) -> Iterator[str]:
    """CEL for lists of the fields that are no fields of a structure, nor of one in it."""
    found = value if value == "object.spec" else f"{value}.orValue({{}})"
    yield f"{found}.filter(name, !({_is_known(schema)})).map(name, '{shown}.' + name)"
    for name, field in schema["properties"].items():
        if "properties" in field:
            yield from _unknown(field, f"{shown}.{name}", f"{value}.?{name}")


def _member_rules(schema: Schema, shown: str, value: str) -> Iterator[Schema]:
    """Rules about the members of lists and mappings, wherever they stand."""
    for name, field in schema["properties"].items():
        below, here = f"{shown}.{name}", f"{value}.?{name}"
        if "properties" in field:
            yield from _member_rules(field, below, here)
        elif "properties" in field.get("items", {}):
            yield from _all_known(field["items"], below, f"{here}.orValue([]).all(")
        elif "properties" in field.get("additionalProperties", {}):
            members = f"{here}.orValue({{}})"
            yield from _all_known(
                field["additionalProperties"], below, f"{members}.all(key, [{members}[key]].all(", closed=")"
            )


def _all_known(schema: Schema, shown: str, opened: str, depth: int = 1, closed: str = "") -> Iterator[Schema]:
    """The rule for the members that `opened` goes through, and those for structures in them."""
    item = f"item{depth}"
    *others, last = schema["properties"]
    yield {
        "expression": f"{opened}{item}, {item}.all(name, {_is_known(schema)})){closed}",
        "message": f"{shown} has a member with a field that does not exist; there are {', '.join(others)} and {last}",
    }
    for name, field in schema["properties"].items():
        if "properties" in field.get("items", {}):
            member, inner = field["items"], f"{item}.?{name}.orValue([])"
        elif "properties" in field:
            member, inner = field, f"[{item}.?{name}.orValue({{}})]"
        else:
            continue
        yield from _all_known(member, f"{shown}.{name}", f"{opened}{item}, {inner}.all(", depth + 1, f"){closed}")


def _is_known(schema: Schema) -> str:
    return f"name in [{', '.join(map(_quoted, schema['properties']))}]"


def _quoted(text: str) -> str:
    return f"'{text}'"

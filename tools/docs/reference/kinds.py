"""The reference of the kinds: every field of spec and status, with its rules, from the definitions of the CRDs."""

from collections.abc import Iterator, Mapping
from typing import Any

from tools.docs.reference.table import kind_of, rules_of, sentences, table

_PARTS = {"spec": "What you write, and what OME fills in.", "status": "What OME writes, and nobody else."}


def page(definition: Mapping[str, Any]) -> str:
    """The page of one CustomResourceDefinition."""
    spec = definition["spec"]
    names = spec["names"]
    [version] = spec["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    lines = [
        f"# {names['kind']}\n",
        f"{schema['description']}\n",
        table(
            ("", ""),
            (
                ("apiVersion", f"`{spec['group']}/{version['name']}`"),
                ("kind", f"`{names['kind']}`"),
                ("Scope", spec["scope"]),
                ("With kubectl", ", ".join(f"`{name}`" for name in (names["plural"], *names["shortNames"]))),
                ("Field selectors", ", ".join(f"`{each['jsonPath'][1:]}`" for each in version["selectableFields"])),
                ("Columns", ", ".join(column["name"] for column in version["additionalPrinterColumns"])),
            ),
        ),
        "`[]` stands for each entry of a list, and `.*` for each key of a map. Required fields are **bold**.\n",
    ]
    for part, meaning in _PARTS.items():
        fields = schema["properties"][part]
        rows = (
            (path, kind_of(each), sentences(each.get("description", ""), rules_of(each)))
            for path, each in rows_of(fields)
        )
        lines += [
            f"## {part}\n",
            f"{sentences(meaning, rules_of(fields))}\n",
            table(("Field", "Type", "Meaning"), rows),
        ]
    return "\n".join(lines)


def rows_of(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each field below a schema: its path as code, and its own schema."""
    for name, field in schema.get("properties", {}).items():
        below = f"{path}{name}"
        yield f"**`{below}`**" if name in schema.get("required", ()) else f"`{below}`", field
        yield from rows_of(field, f"{below}.")
        for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
            if isinstance(inner := field.get(key), Mapping):
                yield from rows_of(inner, f"{below}{mark}.")

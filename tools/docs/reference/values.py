"""The reference of the charts' values: each field with its default, from values.schema.json and values.yaml."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tools.docs.reference.table import code, kind_of, rules_of, sentences, table

_KEY = re.compile(r"^(?P<indent> *)(?P<name>[A-Za-z][\w-]*):")
# A longer default is left to values.yaml.
_LONGEST_DEFAULT = 60


def page(chart: Path) -> str:
    """The page of the chart in a folder."""
    about = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    schema = json.loads((chart / "values.schema.json").read_text(encoding="utf-8"))
    text = (chart / "values.yaml").read_text(encoding="utf-8")
    values, said = yaml.safe_load(text) or {}, comments_of(text)
    rows = (
        (
            f"`{path}`",
            kind_of(field),
            _default(values, path),
            sentences(said.get(path) or field.get("description", ""), _rules(field)),
        )
        for path, field in fields_of(schema)
    )
    return "\n".join(
        (
            f"# Values of {about['name']}\n",
            f"{about['description'].rstrip('.')}. The chart is in `deploy/helm/{chart.name}`.\n",
            "`[]` stands for each entry of a list. Helm refuses a value that is not on this page.\n",
            table(("Value", "Type", "Default", "Meaning"), rows),
        )
    )


def fields_of(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each value of a schema: its dotted path, and its own schema."""
    for name, field in schema.get("properties", {}).items():
        below = f"{path}{name}"
        yield below, field
        yield from fields_of(field, f"{below}.")
        if isinstance(items := field.get("items"), Mapping):
            yield from fields_of(items, f"{below}[].")


def comments_of(text: str) -> dict[str, str]:
    """What the comments right above the keys of a values.yaml say, by dotted path."""
    found: dict[str, str] = {}
    above: list[str] = []
    open_keys: list[tuple[int, str]] = []
    for line in text.splitlines():
        if line.strip().startswith("#"):
            above.append(line.strip().removeprefix("#").strip())
            continue
        if match := _KEY.match(line):
            depth = len(match["indent"])
            open_keys = [(indent, name) for indent, name in open_keys if indent < depth]
            open_keys.append((depth, match["name"]))
            if above:
                found[".".join(name for _, name in open_keys)] = " ".join(above)
        above = []
    return found


def _default(values: Mapping[str, Any], path: str) -> str:
    found: Any = values
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return ""
        found = found[name]
    # The parts of a structure have their own rows.
    if isinstance(found, Mapping) and found:
        return ""
    shown = code(found)
    return shown if len(shown) <= _LONGEST_DEFAULT else "see `values.yaml`"


def _rules(field: Mapping[str, Any]) -> str:
    return rules_of({key: value for key, value in field.items() if key != "default"})

"""The pages of the reference say what the definitions, protos and schemas say, and leave nothing out."""

import json
from pathlib import Path
from typing import Any

from deploy.crd.generate import definitions
from tools.docs.reference import kinds, services, values
from tools.docs.reference.table import cell, kind_of, rules_of, sentences, table
from tools.docs.staging import reference

PROTO = """// What is counted.
syntax = "proto3";
package fruit.v1;

// Basket counts fruit.
service Basket {
  // Count answers with <everything>.
  rpc Count(CountRequest) returns (stream Fruit);
}

// CountRequest asks.
message CountRequest {
  // Names | words.
  repeated string names = 1;
  // Weights by name.
  map<string, Fruit> weights = 2;
  // How ripe.
  Fruit.Ripeness ripeness = 3;
  oneof at {
    // A day.
    optional_day day = 4;
  }
}

// A day.
message optional_day {}

// Fruit is one.
message Fruit {
  // Ripeness of a fruit.
  enum Ripeness {
    // Never sent.
    RIPENESS_UNSPECIFIED = 0;
  }
  // May be unknown.
  optional int64 grams = 1;
}
"""


def test_a_cell_stays_on_one_line_and_inside_its_bars() -> None:
    assert cell("a | b\n  c <token> `x<y>`") == "a \\| b c &lt;token> `x<y>`"
    assert table(("A", "B"), [("1", "x|y")]) == "| A | B |\n|---|---|\n| 1 | x\\|y |\n"


def test_types_and_rules_read_as_words() -> None:
    assert kind_of({"type": "array", "items": {"type": "string"}}) == "list of string"
    assert (
        kind_of({"type": "object", "additionalProperties": {"type": ["string", "number"]}}) == "map of string or number"
    )
    assert kind_of({"enum": ["a"]}) == "string"
    schema = {"enum": ["a", "b"], "default": "", "maxLength": 9, "x-kubernetes-validations": [{"message": "write a"}]}
    assert rules_of(schema) == 'One of `a`, `b`. Default: `""`. At most 9 characters. write a.'
    assert sentences("First", "", "second.") == "First. second."


def test_the_page_of_a_kind_has_every_field_with_its_description() -> None:
    for definition in definitions():
        page = kinds.page(definition)
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        paths = [*fields(schema["spec"]), *fields(schema["status"])]
        assert len(paths) > 100
        for path, description in paths:
            assert f"`{path}`" in page
            assert cell(description) in page
    assert "**`storage.tolerations" not in page
    assert "| `storage.storageUri` | string |" in page


def fields(schema: dict[str, Any], path: str = "") -> list[tuple[str, str]]:
    """Path and description of each field, found in another way than the generator's."""
    found = []
    for name, field in schema.get("properties", {}).items():
        found.append((f"{path}{name}", field.get("description", "")))
        found += fields(field, f"{path}{name}.")
        found += fields(field.get("items", {}), f"{path}{name}[].")
        inner = field.get("additionalProperties")
        found += fields(inner, f"{path}{name}.*.") if isinstance(inner, dict) else []
    return found


def test_the_page_of_a_proto_tells_its_comments_and_links_its_types(tmp_path: Path) -> None:
    (tmp_path / "fruit.proto").write_text(PROTO)
    [file] = services.described_files(tmp_path)
    page = services.page(file, {"fruit.v1": "fruit-v1.md"})
    assert page.startswith("# fruit.v1\n\nWhat is counted.\n")
    assert "[CountRequest](#countrequest) → stream of [Fruit](#fruit)" in page
    assert "Count answers with &lt;everything>." in page
    assert "| `names` | 1 | list of string | Names \\| words. |" in page
    assert "| `weights` | 2 | map of string to [Fruit](#fruit) | Weights by name. |" in page
    assert "| `ripeness` | 3 | [Fruit.Ripeness](#fruitripeness) | How ripe. |" in page
    assert "| `day` | 4 | [optional_day](#optional_day) | A day. (one of `at`) |" in page
    assert "| `grams` | 1 | optional int64 | May be unknown. |" in page
    assert "## Fruit.Ripeness\n\nRipeness of a fruit." in page
    assert "WeightsEntry" not in page


def test_every_message_service_and_value_of_the_protos_is_on_a_page() -> None:
    pages = "\n".join(text for name, text in reference().items() if name.startswith("reference/ome-"))
    for file in services.described_files():
        assert f"# {file.package}\n" in pages
        parts = [message.name for message in file.message_type] + [enum.name for enum in file.enum_type]
        assert [name for name in parts if f"## {name}\n" not in pages] == []
        for service in file.service:
            assert f"## Service {service.name}\n" in pages
            assert all(f"### {method.name}\n" in pages for method in service.method)


def test_values_have_their_default_and_what_stands_above_them(tmp_path: Path) -> None:
    text = "# About the inner one.\nouter:\n  # Two\n  # lines\n  inner: 5\n  list: []\n\n# Not about it.\n\nother: x\n"
    assert values.comments_of(text) == {"outer": "About the inner one.", "outer.inner": "Two lines"}
    inner = {"inner": {"type": "integer", "minimum": 1}, "list": {"type": "array", "items": {"type": "string"}}}
    schema = {"properties": {"outer": {"type": "object", "properties": inner}, "other": {"enum": ["x"]}}}
    (tmp_path / "values.schema.json").write_text(json.dumps(schema))
    (tmp_path / "values.yaml").write_text(text)
    (tmp_path / "Chart.yaml").write_text("name: fruit\ndescription: Fruit.\n")
    page = values.page(tmp_path)
    assert "| `outer.inner` | integer | `5` | Two lines. At least 1. |" in page
    assert "| `outer.list` | list of string | `[]` |  |" in page
    assert "| `other` | string | `x` | One of `x`. |" in page

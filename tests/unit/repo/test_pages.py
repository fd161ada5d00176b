"""Pages that promise to be complete are: every reason, metric and field of the code is on its page, and no other."""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from deploy.crd.generate import definitions
from libs.artifact.findings import Finding
from libs.model.remedies import remedy_of
from ome.model.v1.model_pb2 import REASON_UNSPECIFIED, Reason
from tests.unit.repo.checkout import ROOT, modules_below
from tools.localcluster.natsserver import guide_configuration

GUIDES = ROOT / "docs" / "guides"
FIRST_CELL = re.compile(r"^\| ((?:`[^`]+`(?:, )?)+) \|", re.MULTILINE)
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)

STATUSES = {"True", "False", "Unknown"}
WORD = re.compile(r"[A-Z][a-z]+([A-Z][a-z]+)*")

METRIC_SUFFIXES = {"Counter": "_total", "Gauge": "", "Histogram": ""}


def words_of_first_cells(page: str) -> set[str]:
    """The code words in the first column of all tables of a page."""
    cells = FIRST_CELL.findall((GUIDES / page).read_text(encoding="utf-8"))
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def reasons_on_page() -> set[str]:
    return {word for word in words_of_first_cells("troubleshooting.md") if WORD.fullmatch(word)}


def reasons_of_the_enum() -> set[str]:
    names = (name.removeprefix("REASON_") for name, value in Reason.items() if value != REASON_UNSPECIFIED)
    return {"".join(part.capitalize() for part in name.split("_")) for name in names}


def reasons_of_conditions_and_events() -> set[str]:
    """Words of the status service besides the enum: beside a condition's status, of a cause, of an event."""
    found: set[str] = set()
    for module in modules_below("services/status/"):
        names = {
            target.id: node.value.value
            for node in module.tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(module.tree):
            match node:
                case ast.Tuple(elts=[ast.Constant(value=status), word, *_]) if status in STATUSES:
                    found.update(words(word, names))
                case ast.Call(func=ast.Name(id="Cause"), args=[word, *_]):
                    found.update(words(word, names))
                case ast.Call(func=ast.Name(id="EventDraft"), args=[_, word, *_]):
                    found.update(words(word, names))
    return found


def words(expression: ast.expr, names: Mapping[str, object]) -> Iterator[str]:
    """The reasons that an expression may stand for, as far as they are written down."""
    match expression:
        case ast.Constant(value=str(text)):
            yield text
        case ast.Name(id=name) if isinstance(names.get(name), str):
            yield str(names[name])
        case ast.IfExp(body=body, orelse=orelse):
            yield from words(body, names)
            yield from words(orelse, names)


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def metrics_of_code() -> dict[str, frozenset[str]]:
    """Names under which Prometheus sees the metrics that modules declare, with their labels."""
    return {
        node.args[0].value.removesuffix("_total") + METRIC_SUFFIXES[name_of(node.func)]: _labels_of(node)
        for module in modules_below("services/", "libs/")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and name_of(node.func) in METRIC_SUFFIXES and node.args
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    }


def _labels_of(metric: ast.Call) -> frozenset[str]:
    """The labels that a declaration of a metric has as its third argument."""
    return frozenset(ast.literal_eval(metric.args[2]) if len(metric.args) > 2 else ())


def field_paths(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Dotted paths of all fields of a schema."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from field_paths(field, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), Mapping):
            yield from field_paths(schema[part], path)


def test_every_reason_is_on_the_page_of_reasons() -> None:
    in_conditions = reasons_of_conditions_and_events()
    # Otherwise the code has changed its form, and nothing was looked at.
    assert {"AllNodesReady", "AsExpected", "ParsingSkipped", "Recovered"} <= in_conditions
    missing = (reasons_of_the_enum() | in_conditions | set(map(str, Finding))) - reasons_on_page()
    assert not missing


def test_page_of_reasons_has_none_that_the_code_lacks() -> None:
    known = reasons_of_the_enum() | reasons_of_conditions_and_events() | set(map(str, Finding))
    assert not reasons_on_page() - known


def test_every_metric_is_on_the_page_of_metrics_and_no_other() -> None:
    on_page = {word for word in words_of_first_cells("monitoring.md") if word.startswith("ome_")}
    assert on_page == set(metrics_of_code())


def test_every_reason_is_explained_with_who_must_do_what() -> None:
    words = reasons_of_the_enum() | reasons_of_conditions_and_events() | set(map(str, Finding))
    assert not {word for word in words if not remedy_of(word)}


def test_log_events_on_the_page_exist() -> None:
    text = (GUIDES / "monitoring.md").read_text(encoding="utf-8")
    events = {
        word for cell in FIRST_CELL.findall(text.partition("## Logs")[2]) for word in re.findall(r"`([a-z_]+)`", cell)
    }
    in_code = {
        node.value
        for module in modules_below("services/", "libs/")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert {"started", "reconciled"} <= events <= in_code


def test_every_field_of_the_kinds_is_in_the_guide() -> None:
    code = "\n".join(CODE.findall((GUIDES / "base-models.md").read_text(encoding="utf-8")))
    in_guide = set(re.findall(r"[A-Za-z]\w*", code))
    missing = {
        path
        for definition in definitions()
        for version in definition["spec"]["versions"]
        for part in ("spec", "status")
        for path in field_paths(version["schema"]["openAPIV3Schema"]["properties"][part], part)
        if path.rpartition(".")[2] not in in_guide
    }
    assert not missing


def test_guide_gives_the_accounts_and_permissions_that_are_tested() -> None:
    assert guide_configuration() in (GUIDES / "nats.md").read_text(encoding="utf-8")


def test_the_page_about_security_names_tests_that_there_are() -> None:
    page = (GUIDES.parent / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    found = {
        function
        for path in (ROOT / "tests").rglob("test_*.py")
        for function in re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(named) > 30
    assert not named - found


def test_the_security_policy_names_every_module_of_attacks() -> None:
    named = set(re.findall(r"`(test_\w+\.py)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8")))

    assert named == {path.name for path in (ROOT / "tests" / "attacks").glob("test_*.py")}

"""Rules of the code base that import-linter cannot express: who may use an SDK, names, and where errors are caught."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.unit.repo.checkout import ROOT, files, modules, modules_below

# The only file names that may import an SDK, wherever they lie below services/ and libs/.
SDK_OWNERS = {
    "hf_xet": "xet.py",
    "huggingface_hub": "huggingface.py",
    "oci": "oracle.py",
    "obstore": "buckets.py",
}

# Names that say nothing about what a module owns.
EMPTY_NAMES = {"base", "common", "handler", "helper", "helpers", "manager", "misc", "processor", "util", "utils"}
EMPTY_CLASS_SUFFIX = re.compile(r"(Manager|Handler|Processor|Helper|Util|Utils)$")

# Where an error of any kind ends: at a work item's boundary, in the RPC interceptor, and at the end of the process.
BROAD_EXCEPT_PLACES = {
    "libs/chassis/grpc_server.py",
    "libs/chassis/program.py",
    "libs/chassis/work.py",
    "services/controller/gateway/door.py",
    "services/fetcher/fleet/listing.py",
    "services/fetcher/listers/lister.py",
    "services/fetcher/model/downloads.py",
    "services/fetcher/model/model_loop.py",
}


# What only an adapter, a loop or a metric may import. Everything else decides, and does nothing else.
THE_WORLD = {
    "aiohttp", "asyncio", "grpc", "hf_xet", "huggingface_hub", "kubernetes", "nats", "obstore", "oci", "os",
    "prometheus_client", "random", "socket", "starlette", "structlog", "subprocess", "threading", "time",
    "urllib.request", "uvicorn",
}  # fmt: skip

# The modules that touch the world, themselves or through what they import. A new module is pure until it is added.
IN_THE_WORLD = {
    "services.controller.askings",
    "services.controller.source_changes",
    "services.controller.authorization",
    "services.controller.credentials",
    "services.controller.first_secrets",
    "services.controller.file_lists",
    "services.controller.forecasts",
    "services.controller.gateway.answers",
    "services.controller.gateway.desired",
    "services.controller.gateway.door",
    "services.controller.gateway.following",
    "services.controller.gateway.heartbeats",
    "services.controller.gateway.gateway",
    "services.controller.gateway.settings",
    "services.controller.kube",
    "services.controller.manifests",
    "services.controller.model_loop",
    "services.controller.observations",
    "services.controller.pod_watch",
    "services.controller.gate_watch",
    "services.controller.secret_watch",
    "services.controller.service_watch",
    "services.controller.settings",
    "services.controller.streams",
    "services.controller.trail",
    "services.controller.volume_watch",
    "services.fetcher.cleaning",
    "services.fetcher.failpoints",
    "services.fetcher.fleet.askings",
    "services.fetcher.fleet.assignments",
    "services.fetcher.fleet.credentials",
    "services.fetcher.fleet.gateway",
    "services.fetcher.fleet.heartbeat",
    "services.fetcher.fleet.listing",
    "services.fetcher.fleet.manifests",
    "services.fetcher.fleet.progress",
    "services.fetcher.fleet.reports",
    "services.fetcher.fleet.shared_facts",
    "services.fetcher.fleet.trials",
    "services.fetcher.fleet.use",
    "services.fetcher.listers.frames",
    "services.fetcher.listers.lister",
    "services.fetcher.listers.listers",
    "services.fetcher.listers.warm",
    "services.fetcher.metrics",
    "services.fetcher.model.downloads",
    "services.fetcher.model.evicting",
    "services.fetcher.model.fetching",
    "services.fetcher.model.keeping",
    "services.fetcher.model.model_loop",
    "services.fetcher.model.parser_client",
    "services.fetcher.model.retention",
    "services.fetcher.model.room",
    "services.fetcher.model.roots",
    "services.fetcher.model.scrubbing",
    "services.fetcher.model.trail",
    "services.fetcher.model.triggers",
    "services.fetcher.model.verifying",
    "services.fetcher.resolver",
    "services.fetcher.settings",
    "services.fetcher.sources.admission",
    "services.fetcher.sources.backend",
    "services.fetcher.sources.bucket.backend",
    "services.fetcher.sources.bucket.buckets",
    "services.fetcher.sources.bucket.checksums",
    "services.fetcher.sources.bucket.pages",
    "services.fetcher.sources.catalogue",
    "services.fetcher.sources.checksums",
    "services.fetcher.sources.declarations",
    "services.fetcher.sources.documents",
    "services.fetcher.sources.evidence",
    "services.fetcher.sources.hub.backend",
    "services.fetcher.sources.hub.huggingface",
    "services.fetcher.sources.hub.xet",
    "services.fetcher.sources.hub.xet_streams",
    "services.fetcher.sources.modelscope.backend",
    "services.fetcher.sources.modelscope.listing",
    "services.fetcher.sources.oracle.backend",
    "services.fetcher.sources.oracle.oracle",
    "services.fetcher.sources.renewal",
    "services.fetcher.sources.trust",
    "services.fetcher.sources.vendor.backend",
    "services.fetcher.sources.vendor.driver_file",
    "services.fetcher.sources.vendor.exec_driver",
    "services.fetcher.sources.vendor.http_driver",
    "services.fetcher.stop",
    "services.fetcher.store.artifacts",
    "services.fetcher.store.checks",
    "services.fetcher.store.contents",
    "services.fetcher.store.damage",
    "services.fetcher.store.evictions",
    "services.fetcher.store.files",
    "services.fetcher.store.ingest",
    "services.fetcher.store.journal",
    "services.fetcher.store.links",
    "services.fetcher.store.linux",
    "services.fetcher.store.marks",
    "services.fetcher.store.owners",
    "services.fetcher.store.paths",
    "services.fetcher.store.record",
    "services.fetcher.store.record_folder",
    "services.fetcher.store.releases",
    "services.fetcher.store.scopes",
    "services.fetcher.store.space",
    "services.fetcher.transfer.acquire",
    "services.fetcher.transfer.answers",
    "services.fetcher.transfer.engine",
    "services.fetcher.transfer.gate",
    "services.fetcher.transfer.lanes",
    "services.fetcher.transfer.pieces",
    "services.fetcher.transfer.proving",
    "services.fetcher.transfer.proxies",
    "services.fetcher.transfer.schedule",
    "services.fetcher.transfer.sharing",
    "services.fetcher.transfer.streaming",
    "services.fetcher.transfer.tls",
    "services.fetcher.transfer.wire",
    "services.parser.inspection",
    "services.parser.servicer",
    "services.parser.settings",
    "services.parser.volume",
    "services.status.access",
    "services.status.callers",
    "services.status.catalog",
    "services.status.cluster",
    "services.status.explaining",
    "services.status.file_lists",
    "services.status.following",
    "services.status.forecasts",
    "services.status.kube",
    "services.status.metrics",
    "services.status.model_loop",
    "services.status.node_loop",
    "services.status.observations",
    "services.status.page.acting",
    "services.status.page.board",
    "services.status.page.connections",
    "services.status.page.handshakes",
    "services.status.page.opening",
    "services.status.page.own_events",
    "services.status.page.pages",
    "services.status.page.server",
    "services.status.page.session",
    "services.status.page.sources",
    "services.status.page.streams",
    "services.status.service_loop",
    "services.status.servicer",
    "services.status.settings",
    "services.status.trail",
    "services.status.webhooks",
}


@pytest.mark.parametrize(("sdk", "owner"), SDK_OWNERS.items())
def test_an_sdk_is_imported_by_its_adapter_alone(sdk: str, owner: str) -> None:
    intruders = [
        str(module.path)
        for module in modules_below("services/", "libs/")
        if module.path.name != owner and any(name.split(".")[0] == sdk for name in module.imports())
    ]
    assert not intruders, f"only {owner} may import {sdk}"


def test_artifact_library_needs_the_standard_library_alone() -> None:
    allowed = sys.stdlib_module_names | {"libs"}
    foreign = {
        f"{module.path}: {name}"
        for module in modules_below("libs/artifact/")
        for name in module.imports()
        if name.split(".")[0] not in allowed or (name.startswith("libs.") and not name.startswith("libs.artifact"))
    }
    assert not foreign


def test_services_and_libs_import_nothing_from_tests_tools_or_deploy() -> None:
    wrong = {
        f"{module.path}: {name}"
        for module in modules_below("services/", "libs/")
        for name in module.imports()
        if name.split(".")[0] in {"tests", "tools", "deploy"}
    }
    assert not wrong


def test_no_module_or_folder_has_a_name_that_says_nothing() -> None:
    empty = {
        str(module.path)
        for module in modules()
        if EMPTY_NAMES & {part.removesuffix(".py") for part in module.path.parts}
    }
    assert not empty


def test_no_class_has_a_name_that_says_nothing() -> None:
    empty = {
        f"{module.path}: {node.name}"
        for module in modules_below("services/", "libs/", "tools/", "deploy/")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and EMPTY_CLASS_SUFFIX.search(node.name) and not _is_of_the_standard(node)
    }
    assert not empty


def test_every_module_says_what_it_owns() -> None:
    silent = {
        str(module.path)
        for module in modules_below("services/", "libs/", "tools/", "deploy/")
        if module.tree.body and not ast.get_docstring(module.tree)
    }
    assert not silent


def test_errors_of_any_kind_are_caught_in_permitted_places_only() -> None:
    places = {
        str(module.path)
        for module in modules_below("services/", "libs/")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type) and not _ends_in_plain_raise(node)
    }
    assert places <= BROAD_EXCEPT_PLACES


def test_list_of_permitted_places_is_not_longer_than_needed() -> None:
    broad = {
        str(module.path)
        for module in modules_below("services/", "libs/")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type)
    }
    assert broad >= BROAD_EXCEPT_PLACES


def test_no_task_is_created_and_forgotten() -> None:
    # An unreferenced task may be collected in the middle of its work, and its exception is lost.
    bare = {
        f"{module.path}:{node.lineno}"
        for module in modules_below("services/", "libs/", "tools/", "tests/")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) in {"asyncio.create_task", "asyncio.ensure_future", "loop.create_task"}
    }
    assert not bare


def test_reasons_are_members_of_the_closed_list_and_never_strings() -> None:
    errors = {"Invalid", "Missing", "Conflict", "Unavailable", "Corrupt", "InvalidValue", "ParseError"}
    spelled = {
        f"{module.path}:{node.lineno}"
        for module in modules_below("services/", "libs/")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in errors
        for given in node.args[:1]
        if any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in ast.walk(given))
    }
    assert not spelled


def test_our_code_is_not_mocked() -> None:
    mocking = {
        f"{module.path}: {name}"
        for module in modules()
        for name in module.imports()
        if name.split(".")[0] in {"mock", "pytest_mock"} or name.startswith("unittest.mock")
    }
    assert not mocking


def test_tests_wait_for_conditions_instead_of_sleeping() -> None:
    # A loop that polls until a deadline is fine; a sleep outside a loop guesses how long something takes.
    sleeping = {
        f"{module.path}:{line}"
        for module in modules_below("tests/unit/", "tests/contract/", "tests/integration/", "tests/faults/")
        for line in _sleeps_outside_loops(module.tree)
    }
    assert not sleeping


def test_a_module_is_pure_unless_it_is_known_to_touch_the_world() -> None:
    touching = _touching_the_world()
    assert touching == IN_THE_WORLD


def test_a_backend_uses_no_other_backend() -> None:
    place = "services.fetcher.sources."
    # By folder; what lies beside the folders is for all of them.
    imports = {
        (module.path.parent.name, name.removeprefix(place).split(".")[0])
        for module in modules_below("services/fetcher/sources/")
        for name in module.imports()
        if name.startswith(place) and module.path.parent.name != "sources"
    }
    folders = {folder for folder, _ in imports}
    assert len(folders) > 1
    assert not {(folder, used) for folder, used in imports if used in folders - {folder}}


def test_import_contracts_are_kept(tmp_path: Path) -> None:
    result = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--cache-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_pants_and_import_linter_have_one_order_of_the_rooms_of_the_fetcher() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [linted] = (contract["layers"] for contract in contracts if contract["name"] == "Rooms of the fetcher")
    [call] = (
        node
        for node in ast.walk(ast.parse((ROOT / "services/fetcher/BUILD").read_text()))
        if isinstance(node, ast.Call)
    )
    [rooms] = (ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg == "rooms")
    assert rooms == linted


def test_no_file_carries_a_path_of_somebodys_machine() -> None:
    suspicious = re.compile(r"/home/\w+/|/Users/\w+/|/work/(main|shared)\b")
    carriers = {
        str(path)
        for path in files()
        if path.suffix in {".py", ".md", ".sh", ".toml", ".yaml", ".yml", ".tpl", ".txt", ".in", ".lock", ""}
        and path != Path(__file__).relative_to(ROOT)
        and suspicious.search((ROOT / path).read_text(encoding="utf-8", errors="replace"))
    }
    assert not carriers


def _touching_the_world() -> set[str]:
    """Modules of services that import the world, or import one that does. The processes' own entries do by nature."""
    imports = {module.name: module.imports() for module in modules_below("services/", "libs/")}
    touching = {name for name, used in imports.items() if any({each, each.split(".")[0]} & THE_WORLD for each in used)}
    while more := {name for name, used in imports.items() if name not in touching and used & touching}:
        touching |= more
    return {name for name in touching if name.startswith("services.") and not name.endswith((".main", ".__main__"))}


def _is_of_the_standard(node: ast.ClassDef) -> bool:
    """Whether the name comes from a base class of the standard library, such as BaseHTTPRequestHandler."""
    return any(EMPTY_CLASS_SUFFIX.search(ast.unparse(base)) for base in node.bases)


def _is_broad(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(ast.unparse(name) in {"Exception", "BaseException"} for name in names)


def _ends_in_plain_raise(handler: ast.ExceptHandler) -> bool:
    """Whether the handler only cleans up and lets the error go on."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _sleeps_outside_loops(tree: ast.AST, in_loop: bool = False) -> list[int]:
    lines: list[int] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep"} and not in_loop:
            zero = node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
            lines += [] if zero else [node.lineno]
        inside = in_loop or isinstance(node, ast.While | ast.For | ast.AsyncFor)
        lines += _sleeps_outside_loops(node, inside)
    return lines

"""No command slips into a document unseen: its parts exist, or it is of a named kind that nobody can check here.

What a program itself must say, as of the flags of kubectl and helm, is tested in
tests/integration/test_documented_commands.py, where the programs are.
"""

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from clients.kubectl.usage import parser as plugin
from deploy.crd.generate import definitions
from tests.unit.repo.checkout import ROOT
from tests.unit.repo.commands import Command, commands, commands_of

# Programs that are neither ours nor part of a local cluster, and why no test here can run what is told.
OF_OTHERS = {
    "chmod": "of every system",
    "date": "of every system",
    "docker": "needs a container engine and a registry",
    "grpcurl": "not in any registry of packages; its calls are held against the protos",
    "install": "of every system",
    "nk": "of the NATS project, in Go; its output's form is what the gateway's tests read",
    "openssl": "of every system",
    "printf": "of every system",
    "restorecon": "needs a host with SELinux",
    "semanage": "needs a host with SELinux",
    "skopeo": "needs a registry",
}
# Functions that a document itself defines, and the program that each calls.
FUNCTIONS = {"ask": "grpcurl"}
# Kinds that kubectl knows without us, by the names that documents use.
KUBERNETES = {
    "clusterrole", "clusterrolebinding", "configmap", "configmaps", "daemonset", "daemonsets", "deployment", "generic",
    "namespace", "node", "nodes", "pod", "pods", "role", "rolebinding", "secret", "service", "serviceaccount",
    "statefulset", "svc", "token",
}  # fmt: skip
# Verbs whose first word after them is a kind, or kind/name.
ON_KINDS = {"annotate", "create", "delete", "describe", "get", "label", "patch", "wait"}
OTHER_VERBS = {"apply", "auth", "cordon", "drain", "logs", "krew", "port-forward", "rollout", "ome-models"}
WITH_VALUE = {"-n", "-o", "-l", "-p", "-f", "-k", "--set", "--field-selector", "--namespace"}
ALL = tuple(commands())


def of(program: str) -> list[Command]:
    """The commands of a program, without sudo before it."""
    found = [Command(each.document, each.line, each.words[each.words[0] == "sudo" :]) for each in ALL]
    return [each for each in found if each.program == program]


def arguments(command: Command) -> list[str]:
    """The words after the program that are neither flags nor values of flags."""
    found, skip = [], False
    for word in command.words[1:]:
        if skip or word.startswith("-"):
            skip = word in WITH_VALUE and not skip
        else:
            found.append(word)
    return found


def kinds() -> set[str]:
    """Every name by which kubectl knows a kind that a document may use."""
    names = [definition["spec"]["names"] for definition in definitions()]
    ours = {name for each in names for name in (each["plural"], each["singular"], *each["shortNames"])}
    return KUBERNETES | ours | {f"{name}.ome.io" for name in ours}


def values_of(chart: Path) -> set[str]:
    """Dotted paths of the values that a chart's schema knows, with those of the charts inside it."""

    def paths(schema: Mapping[str, object], below: str) -> set[str]:
        found: set[str] = set()
        properties = schema.get("properties")
        for name, field in (properties if isinstance(properties, dict) else {}).items():
            found |= {f"{below}{name}"} | paths(field, f"{below}{name}.")
        return found

    return paths(json.loads((chart / "values.schema.json").read_text()), "")


def test_commands_are_read_as_a_shell_reads_them() -> None:
    text = """```bash
for x in a b; do
  A=1 first --flag="two words" \\
    more | second > out   # a remark
done && third $(inner one) <file
```

```text
$ fourth "a b"
what it said
```
"""
    words = [command.words for command in commands_of("d.md", text)]
    first = ("first", "--flag=two words", "more")
    assert words == [first, ("second",), ("third", "OUTPUT"), ("inner", "one"), ("fourth", "a b")]
    assert [command.line for command in commands_of("d.md", text)][:3] == [3, 3, 5]


def test_every_program_of_a_document_is_checked_or_named_as_one_of_others() -> None:
    checked = {"make", "kubectl", "helm", "pip", "sudo", ".venv/bin/python", *FUNCTIONS}
    assert len(ALL) > 100
    assert [str(command) for command in ALL if command.program not in checked | set(OF_OTHERS)] == []


def test_no_program_is_named_as_one_of_others_that_no_document_uses() -> None:
    assert set(OF_OTHERS) - {command.program for command in ALL} == set()


def test_targets_and_variables_of_make_exist() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", text, re.MULTILINE))
    variables = set(re.findall(r"\$\((?:[a-z]+ )?([A-Z]+)\b", text)) | set(
        re.findall(r"^([A-Z]+) \?=", text, re.MULTILINE)
    )
    wrong = []
    for command in of("make"):
        for word in command.words[1:]:
            name, assigned, _ = word.partition("=")
            # A value in quotes is one word for a shell, but not for who reads `T="… -k x"` as several.
            if name not in (variables if assigned else targets):
                wrong.append(f"{command}: {word}")
    assert not wrong


def test_inline_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        (str(path), target)
        for path in (ROOT / "docs").rglob("*.md")
        for target in re.findall(r"`make ([a-z][a-z0-9-]*)", path.read_text())
    }
    assert len(named) > 20
    assert [each for each in named if each[1] not in targets] == []


def test_modules_that_documents_run_exist_and_know_their_commands_and_flags() -> None:
    wrong = []
    for command in of(".venv/bin/python"):
        option, module, *rest = command.words[1:]
        folder = ROOT / module.replace(".", "/")
        source = folder / "__main__.py" if folder.is_dir() else folder.with_suffix(".py")
        if option != "-m" or not source.is_file():
            wrong.append(str(command))
            continue
        known = {node.value for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Constant)}
        # The inspection of the parser has a module of its own.
        known |= {"inspect"} if (folder / "inspection.py").is_file() else set()
        named = [word for word in rest if word.startswith("--")] + [word for word in rest[:1] if word.islower()]
        wrong += [f"{command}: {word}" for word in named if word not in known]
    assert not wrong


def test_folders_that_pip_installs_are_there() -> None:
    assert of("pip")
    for command in of("pip"):
        assert (ROOT / command.words[2] / "pyproject.toml").is_file(), command


def test_verbs_and_kinds_of_kubectl_exist() -> None:
    known, wrong = kinds(), []
    for command in of("kubectl"):
        verb, *rest = arguments(command)
        if verb in ON_KINDS and rest:
            named = [part.partition("/")[0] for part in rest[0].split(",")]
            wrong += [f"{command}: {name}" for name in named if name not in known]
        elif verb not in OTHER_VERBS:
            wrong.append(f"{command}: {verb}")
    assert not wrong


def test_files_that_kubectl_and_helm_read_are_in_the_repository() -> None:
    wrong = []
    for command in [*of("kubectl"), *of("helm")]:
        named = [word for word in command.words if word.startswith("deploy/")]
        wrong += [f"{command}: {word}" for word in named if not (ROOT / word).exists()]
    assert not wrong


def test_commands_of_the_plugin_are_accepted_by_it() -> None:
    used = [command for command in of("kubectl") if command.words[1] == "ome-models" and "--help" not in command.words]
    assert used
    for command in used:
        plugin().parse_args(command.words[2:])


def test_charts_know_the_values_that_documents_set() -> None:
    wrong = []
    for command in of("helm"):
        if command.words[1] in ("install", "upgrade"):
            known = values_of(ROOT / command.words[3])
            names = [
                command.words[at + 1].partition("=")[0] for at, word in enumerate(command.words) if word == "--set"
            ]
            wrong += [f"{command}: {name}" for name in names if name not in known]
    assert not wrong


@pytest.mark.parametrize("program", ["grpcurl", "ask"])
def test_methods_that_documents_call_are_in_the_protos(program: str) -> None:
    protos = "\n".join(path.read_text() for path in (ROOT / "proto").rglob("*.proto"))
    called = [word for command in of(program) for word in command.words if word.startswith("ome.")]
    assert called
    for name in called:
        service, _, method = name.partition("/")
        assert f"service {service.rpartition('.')[2]} " in protos
        assert f"rpc {method}(" in protos

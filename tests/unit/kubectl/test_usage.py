"""The command line of the plugin: what it takes, hands on and offers, and how little it loads."""

import subprocess
import sys

import pytest

from clients.kubectl.__main__ import main
from clients.kubectl.usage import (
    COMMANDS,
    kubectl_flags,
    named,
    offered,
    parser,
    wants_files,
    wants_models,
    wants_nodes,
)

HEAVY = ("aiohttp", "asyncio", "google.protobuf", "grpc", "kubernetes", "nats", "structlog")


def test_flags_of_kubectl_are_handed_on() -> None:
    options = parser().parse_args(["why", "llama", "--node", "n1", "--context", "prod", "--as=me"])
    assert (options.model, options.node, kubectl_flags(options)) == ("llama", "n1", ("--context=prod", "--as=me"))


@pytest.mark.parametrize("arguments", [[], ["why"], ["get", "-o", "xml"], ["status", "a", "b"], ["sing"]])
def test_a_wrong_command_ends_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: kubectl ome-models" in capsys.readouterr().err


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "3  status: the model is not there yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([""], list(COMMANDS)),
        (["h"], ["history"]),
        (["get", "-o", "w"], ["wide"]),
        (["why", "llama", "--no"], ["--node"]),
        (["status", "--until", ""], ["ready", "complete"]),
        (["nodes", "--node"], []),
        (["sing", "-"], []),
    ],
)
def test_words_are_offered_for_what_is_begun(words: list[str], found: list[str]) -> None:
    assert offered(words) == found


def test_names_are_looked_up_only_where_they_are_meant() -> None:
    assert wants_models(["why", ""])
    assert not wants_models(["why", "llama", "--node", ""])
    assert wants_nodes(["why", "llama", "--node", ""])
    assert not wants_nodes(["get", "--node", ""])
    assert wants_files(["plan", "-f", ""])
    assert wants_files(["parse", ""])
    assert not wants_files(["get", ""])


def test_a_name_is_offered_as_it_is_begun_and_with_its_kind_where_it_needs_that() -> None:
    names = ["clusterbasemodel.ome.io/llama", "basemodel.ome.io/twice", "clusterbasemodel.ome.io/twice"]
    assert named(names, "ll") == ["llama", *names[1:]]
    assert named(names, "clusterbasemodel.ome.io/") == names
    assert named(["node/n1"], "") == ["n1"]


def test_paths_are_left_to_the_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["__complete", "plan", "-f", ""]) == 0
    assert capsys.readouterr().out == ":0\n"


def test_words_are_offered_as_kubectl_takes_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["__complete", "wh"]) == 0
    assert capsys.readouterr().out == "why\n:4\n"


def test_nothing_that_takes_long_is_loaded() -> None:
    # What a person waits for with each command.
    code = f"import sys, clients.kubectl.__main__; print([each for each in {HEAVY} if each in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

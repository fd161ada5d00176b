"""The command line: what users may write, and the words to offer for what they have begun. Pure."""

import argparse
from collections.abc import Sequence
from typing import Any

from clients.kubectl.tables import FORMATS

# What kubectl calls the plugin.
NAME = "kubectl ome-models"
COMMANDS = {
    "get": "list models",
    "status": "show how a model stands on its nodes; with -w, until it is there",
    "why": "say why a model is, or is not, on a node or on more nodes",
    "plan": "say what would come of a manifest, before it is applied",
    "nodes": "list nodes with the models on them",
    "top": "list models by the disk that they take, with their traffic",
    "history": "show what is still known of a model's past",
    "verify": "have nodes read their copies and compare them with their checksums, and say what they find",
    "evict": "have nodes give a model up that they may give up and no Pod uses",
    "pull": "have nodes fetch a model again that they have given up",
    "parse": "say what a directory or a repository of Hugging Face declares about its model",
    "completion": "print the script by which kubectl completes words",
}
# Commands that need the name of a model, and those that may be about one of its nodes.
_NAMING = ("why", "history", "verify", "evict", "pull")
_ON_NODES = ("why", "verify", "evict", "pull")
_EPILOG = """exit codes:
  0  done; for status: the model is there; for plan: nothing is in its way; for verify: no copy is damaged
  1  status: the model has failed; plan: it would not come to be everywhere that it is meant for;
     verify: a copy is damaged or unreadable; verify, evict, pull, parse: the model's state or rules do
     not allow it
  2  the command is wrong
  3  status: the model is not there yet; plan: not all of it is known; verify: not all nodes have answered
  4  the API server refuses the request, or cannot be reached
"""
# Flags of kubectl that choose the cluster and the user, with values.
_KUBECTL_FLAGS = ("--kubeconfig", "--context", "--cluster", "--user", "--server", "--token", "--as", "--as-group")


class _Parser(argparse.ArgumentParser):
    """Remembers what it was given, as words are completed by it."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self.given: list[argparse.Action] = []
        super().__init__(*arguments, **more)

    def add_argument(self, *arguments: Any, **more: Any) -> argparse.Action:
        """As its parent does."""
        self.given.append(super().add_argument(*arguments, **more))
        return self.given[-1]


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    return _parsers()[0]


def _parsers() -> tuple[_Parser, dict[str, list[argparse.Action]]]:
    """The parser of the whole command line, and what each command takes."""
    taken: dict[str, list[argparse.Action]] = {}
    common = _Parser(add_help=False)
    common.add_argument(
        "-n", "--namespace", default="", help="namespace of a BaseModel; that of the context if left out"
    )
    common.add_argument("-A", "--all-namespaces", action="store_true", help="look in all namespaces")
    common.add_argument("-o", "--output", default="table", choices=FORMATS, help="form of what is printed")
    common.add_argument("--ome-namespace", default="ome", metavar="NAMESPACE", help="namespace of OME itself")
    for flag in _KUBECTL_FLAGS:
        common.add_argument(flag, default="", help="as for kubectl")
    whole = _Parser(
        prog=NAME,
        description="Shows where base models are in a cluster, what is on its way, and why something is not.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, does in COMMANDS.items():
        each = commands.add_parser(name, help=does, description=f"{does.capitalize()}.", parents=[common])
        if name in ("get", "status"):
            each.add_argument("model", nargs="?", default="", metavar="MODEL", help="NAME or KIND/NAME")
        if name in _NAMING:
            each.add_argument("model", metavar="MODEL", help="NAME or KIND/NAME")
        if name == "status":
            each.add_argument("-w", "--watch", action="store_true", help="go on until the model is there or has failed")
            each.add_argument(
                "--until", choices=("ready", "complete"), default="ready", help="one node holds it, or all that must"
            )
        if name == "plan":
            each.add_argument(
                "-f", "--filename", required=True, metavar="FILE", help="the manifest; - for what is piped"
            )
            each.add_argument(
                "--status", default="", metavar="URL", help="address of OME's page; OME_STATUS if left out"
            )
            each.add_argument(
                "--account",
                default="",
                metavar="[NAMESPACE/]NAME",
                help="ServiceAccount whose rights count; OME_STATUS_TOKEN holds a token if left out",
            )
            each.add_argument("--audience", default="ome-status", help="audience of its token, if it is not ome-status")
        if name in _ON_NODES:
            each.add_argument("--node", default="", help="name of a node")
        if name == "verify":
            each.add_argument(
                "--timeout", type=float, default=3600.0, metavar="SECONDS", help="how long to wait; 0 asks and ends"
            )
        if name == "parse":
            each.add_argument("source", metavar="DIR|hf://OWNER/NAME[@REVISION]", help="what to look at")
        taken[name] = [*each.given, *common.given]
    return whole, taken


def kubectl_flags(options: argparse.Namespace) -> tuple[str, ...]:
    """The flags to hand on to kubectl."""
    names = [(flag, getattr(options, flag[2:].replace("-", "_"), "")) for flag in _KUBECTL_FLAGS]
    return tuple(f"{flag}={value}" for flag, value in names if value)


def wants_models(words: Sequence[str]) -> bool:
    """Whether the last of some words, which the user has begun, is the name of a model."""
    if len(words) < 2 or words[0] not in ("get", "status", *_NAMING):
        return False
    return not words[-1].startswith("-") and words[-2] not in _with_values(words[0])


def named(names: Sequence[str], begun: str) -> list[str]:
    """Names as the user has begun to write one: without the kind, unless that is written or a name needs it."""
    plain = [name.rpartition("/")[2] for name in names]
    if "/" in begun:
        return list(names)
    return [short if plain.count(short) == 1 else name for name, short in zip(names, plain, strict=True)]


def wants_nodes(words: Sequence[str]) -> bool:
    """Whether the last of some words is the name of a node."""
    return len(words) >= 2 and words[0] in _ON_NODES and words[-2] == "--node"


def wants_files(words: Sequence[str]) -> bool:
    """Whether the last of some words is a path, which the shell completes by itself."""
    if len(words) < 2:
        return False
    return words[-2] in ("-f", "--filename", "--kubeconfig") or (words[0] == "parse" and not words[-1].startswith("-"))


def offered(words: Sequence[str]) -> list[str]:
    """Commands, or values of a flag, that the user may mean by the last word."""
    begun = words[-1] if words else ""
    if len(words) <= 1:
        return [name for name in COMMANDS if name.startswith(begun)]
    for flag in _flags_of(words[0]):
        if words[-2] in flag.option_strings and flag.choices:
            return [str(choice) for choice in flag.choices if str(choice).startswith(begun)]
    if begun.startswith("-") and words[-2] not in _with_values(words[0]):
        names = sorted(name for flag in _flags_of(words[0]) for name in flag.option_strings)
        return [name for name in names if name.startswith("--") and name.startswith(begun)]
    return []


def _flags_of(command: str) -> list[argparse.Action]:
    """The flags of a command; none of a word that is no command."""
    return [each for each in _parsers()[1].get(command, ()) if each.option_strings]


def _with_values(command: str) -> set[str]:
    """The flags of a command after which a value stands."""
    return {name for flag in _flags_of(command) if flag.nargs != 0 for name in flag.option_strings}

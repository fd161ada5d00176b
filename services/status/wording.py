"""The English of conditions, failures and events. Says what it is told and judges nothing. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from libs.artifact.durations import shown_duration
from libs.artifact.sizes import shown_size
from ome.fetch.v1.fetch_pb2 import FollowFailure, Volume
from ome.model.v1.model_pb2 import Artifact

NO_DETAILS = "No further details were given."
NOT_REPORTED = "The node has not reported yet."
NODE_GONE = "The node does not exist."
NODE_SILENT = "The node's fetcher does not report."
NODE_OUTDATED = "The node holds the model as of an earlier edit, and has not begun with the latest one."
NOT_PLANNED = "The controller has not planned this model yet."
NO_STORAGE = "The model has no spec.storage: there is nothing to fetch."
DISABLED = "The model is disabled (spec.disabled): no download starts; existing copies stay."
NO_MATCHING_NODE = "No node matches storage.nodeSelector and storage.nodeAffinity."
NOT_LISTED = "Waiting for the source to be listed."
NOT_PARSED = "The model's files have not been parsed yet."
PARSING_SKIPPED = "The annotation ome.io/skip-config-parsing turns the parsing off."
WHOLE = "All files are there that the model's indexes, headers and configuration describe."
UNPROVEN = "Nothing in the model's files tells whether all of them are there."
NOT_JUDGED = "The model's files have not been looked at yet."
USED_ALTHOUGH_INCOMPLETE = " It is used all the same, as parameters.allowIncomplete says."
ROLLED_OUT = "All nodes have the same revision, or fetch it."
FOLLOWED = "OME lists the source at its interval."
NOTHING_WRONG = "Nothing is wrong."
NO_NODE_IN_TROUBLE = "No node is in trouble."
NOTHING_STUCK = "Nothing is stuck."
NOTHING_COPIED = "OME copies nothing: the model is used in place."

# What a condition says when another one tells the cause.
_VERDICTS = {
    "Available": "No node holds the model",
    "Complete": "Not every node that must hold the model does",
    "Parsed": "There are no facts about the model's files",
    "Resolved": "It is not known what the source holds",
    "Whole": "It is not known whether all files are there",
    "Degraded": "There is a problem",
    "Stalled": "OME does not go on by itself",
}

_NAMES_LISTED = 3
# A word of plain English; what holds a dot, a dash, a digit or a capital is the name of a field, a file or an object.
_PLAIN_WORD = re.compile(r"[a-z]+[,:;]?")


def sentence(text: str) -> str:
    """A message as a sentence of its own. Names at its beginning stay as they are spelled."""
    text = text.strip()
    if not text:
        return NO_DETAILS
    if _PLAIN_WORD.fullmatch(text.split(maxsplit=1)[0]):
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def not_followed(failure: FollowFailure) -> str:
    """Since when a source that is followed cannot be listed, why, and what that means for the nodes."""
    since = failure.since.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        f"Since {since}, OME has failed {failure.attempts} times to list the source, which the model follows; nodes "
        f"keep what they have. {sentence(failure.problem.message)}"
    )


def some_hold(ready: int, desired: int) -> str:
    """How many nodes hold the model."""
    return f"{ready} of {_count(desired, 'node')} {'holds' if ready == 1 else 'hold'} the model."


def told_by(condition: str, home: str) -> str:
    """That another condition tells the cause of this one."""
    return f"{_VERDICTS.get(condition, f'{condition} does not hold')}: the condition {home} tells the cause."


def all_hold(ready: Sequence[str]) -> str:
    """Every node holds the model."""
    return f"Node {ready[0]} holds the model." if len(ready) == 1 else f"All {len(ready):,} nodes hold the model."


def volume_holds(volume: Volume) -> str:
    """A claim holds the model."""
    return f"PersistentVolumeClaim {volume.namespace}/{volume.claim} holds the model."


def weights_adapt(weights: Sequence[str]) -> str:
    """Who adapts a model, as the beginning of a sentence."""
    if len(weights) == 1:
        return f"FineTunedWeight {weights[0]} adapts"
    return f"{_count(len(weights), 'FineTunedWeight')} ({_names(weights)}) adapt"


def deletion_awaits(nodes: Sequence[str]) -> str:
    """Which nodes still have to delete their copy."""
    return f"Waiting for {_names(nodes)} to delete the model." if nodes else "No node holds the model any more."


def deletion_held(node: str, held: int, message: str) -> str:
    """One node on which Pods use the model stands for all."""
    more = f" So it is on {_count(held - 1, 'more node')}." if held > 1 else ""
    return f"Deletion waits on {node}: {message.strip().rstrip('.')}.{more}"


def silent(nodes: Sequence[str]) -> str:
    """Fetchers that do not report."""
    if len(nodes) == 1:
        return f"The fetcher on node {nodes[0]} does not report."
    return f"The fetchers on {_count(len(nodes), 'node')} do not report: {_names(nodes)}."


def failure(node: str, failed: int, desired: int, message: str) -> str:
    """One node's failure stands for all."""
    if desired == 1:
        return sentence(message)
    return f"{failed} of {_count(desired, 'node')} failed. On {node}: {sentence(message)}"


def damage(node: str, damaged: int, desired: int, message: str) -> str:
    """One node's damaged copy stands for all."""
    if desired == 1:
        return sentence(message)
    return f"The copies of {damaged} of {_count(desired, 'node')} are damaged. On {node}: {sentence(message)}"


def evicted(nodes: Sequence[str], message: str) -> str:
    """Nodes that have given up their copies, and the reason of the first."""
    verb = "has" if len(nodes) == 1 else "have"
    return f"{_names(nodes)} {verb} given up the model: {sentence(message)}"


def waiting(nodes: Sequence[str], desired: int) -> str:
    """Nodes that are under way."""
    return f"Waiting for {len(nodes)} of {_count(desired, 'node')}: {_names(nodes)}."


def fetched(progress: Mapping[str, Any]) -> str:
    """A further sentence about how far .status.progress is; empty if nothing is fetched."""
    if not progress:
        return ""
    rate, eta = progress["bytesPerSecond"], progress.get("etaSeconds")
    figures = [f"{shown_size(progress['bytes'])} of {shown_size(progress['totalBytes'])}"]
    if rate:
        figures.append(f"{shown_size(rate)}/s")
    if eta:
        figures.append(f"about {shown_duration(eta)} left")
    return f" {progress['percent']} fetched ({', '.join(figures)}; slowest is {progress['slowestNode']})."


def resolved(artifact: Artifact) -> str:
    """What the source holds."""
    revision = f" at {artifact.source_revision}" if artifact.source_revision else ""
    return f"The source{revision} has {_files(artifact)}."


def found(artifact: Artifact | None) -> str:
    """What lies in a volume."""
    if artifact is None or not artifact.files:
        return NOTHING_COPIED
    return f"The model has {_files(artifact)}. {NOTHING_COPIED}"


def parsed(described: Sequence[str]) -> str:
    """What the files were found to be."""
    return f"The model's files were parsed: {', '.join(described)}." if described else "The model's files were parsed."


def _files(artifact: Artifact) -> str:
    return f"{_count(artifact.files, 'file')} of {shown_size(artifact.bytes)}"


def _names(names: Sequence[str]) -> str:
    shown = sorted(names)[:_NAMES_LISTED]
    more = len(names) - len(shown)
    if more:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

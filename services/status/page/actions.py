"""What a person may have done from the page of a model: the choices, and the patch of the one that is taken.

Decides what is offered; whether the model allows it is libs.model's, and whether the person may the API server's. Pure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from libs.model import actions

Model = Mapping[str, Any]
# A browser offers so many nodes in one list; for a larger fleet there is the plugin.
_MOST_CHOICES = 200


@dataclass(frozen=True)
class Action:
    """One thing to do. A choice is the name of a node or a revision; empty stands for what comes first."""

    word: str
    title: str
    says: str
    button: str
    label: str
    choices: Callable[[Model], list[tuple[str, str]]]
    why_not: Callable[[Model, str], str]
    # The patch for a model, a word that names the request, and a choice.
    patch: Callable[[Model, str, str], actions.Patch]

    def offered(self, model: Model) -> list[tuple[str, str]]:
        """The choices that the model allows now, each with what is shown for it."""
        return [(value, shown) for value, shown in self.choices(model) if not self.why_not(model, value)]


def _status(model: Model) -> Mapping[str, Any]:
    return model.get("status") or {}


def _nodes(field: str) -> Callable[[Model], list[tuple[str, str]]]:
    def choices(model: Model) -> list[tuple[str, str]]:
        named = list(_status(model).get(field) or ())[:_MOST_CHOICES]
        return [("", "All nodes"), *((node, node) for node in named)]

    return choices


def _revisions(model: Model) -> list[tuple[str, str]]:
    history = [each for each in _status(model).get("history") or () if each.get("digest")]
    named = [(each["digest"], str(each.get("sourceRevision") or each["digest"])) for each in history]
    return [("", "What the source has"), *named]


ACTIONS = {
    each.word: each
    for each in (
        Action(
            "verify",
            "Verify copies",
            "Nodes read their copies now, as fast as their disks do, and compare them with their checksums. "
            "What is damaged is fetched again.",
            "Verify",
            "Where",
            _nodes("nodesReady"),
            actions.why_not_verified,
            lambda model, word, node: actions.verify_patch(word, node),
        ),
        Action(
            "evict",
            "Give copies up",
            "Nodes remove their copies, and do without the model until somebody pulls it or a Pod needs it.",
            "Evict",
            "Where",
            _nodes("nodesReady"),
            actions.why_not_evicted,
            lambda model, word, node: actions.evict_patch(model, node),
        ),
        Action(
            "pull",
            "Fetch again",
            "Nodes that have given the model up fetch it again.",
            "Pull",
            "Where",
            _nodes("nodesEvicted"),
            actions.why_not_pulled,
            actions.pull_patch,
        ),
        Action(
            "return",
            "Go back to a revision",
            "Nodes hold the revision that you choose, whatever the source has, until you choose the source again.",
            "Go back",
            "Revision",
            _revisions,
            actions.why_not_returned,
            lambda model, word, digest: actions.return_patch(digest),
        ),
    )
}

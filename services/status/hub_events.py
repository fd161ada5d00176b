"""What a webhook of Hugging Face says: which repository has changed, and which branches and tags of it.

The format is that of https://huggingface.co/docs/hub/webhooks. All of it is from a stranger who knows a secret: what
is of no use is dropped, and what is not understood is no reason to fail. Pure.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

# As the hub has it: a name, or owner and name.
_REPOSITORY = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"refs/(heads|tags)/(?P<name>[\w./+-]{1,255})", re.ASCII)
# Of more revisions that change at once, any may be meant.
_MOST_REVISIONS = 64


@dataclass(frozen=True)
class RepositoryChange:
    """A repository of models whose content has changed."""

    repository: str
    # Branches and tags; empty if it is not known which.
    revisions: tuple[str, ...] = ()


def read_event(body: bytes) -> RepositoryChange | None:
    """What has changed by an event; None for one that changes nothing that a model could follow, or is none."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    repository, event = _mapping(said, "repo"), _mapping(said, "event")
    name, scope = repository.get("name"), event.get("scope")
    if repository.get("type") != "model" or not isinstance(name, str) or not _REPOSITORY.fullmatch(name):
        return None
    # Scopes may get narrower ones below them. Of discussions, comments and settings no file changes.
    if not isinstance(scope, str) or not (scope == "repo" or f"{scope}.".startswith("repo.content.")):
        return None
    references = said.get("updatedRefs")
    if not isinstance(references, list) or len(references) > _MOST_REVISIONS:
        return RepositoryChange(name)
    texts = [each["ref"] for each in references if isinstance(each, dict) and isinstance(each.get("ref"), str)]
    revisions = tuple(match["name"] for text in texts if (match := _REVISION.fullmatch(text)))
    # A pull request is a reference of its own, which no model follows.
    return RepositoryChange(name, revisions) if revisions or not references else None


def _mapping(said: Any, key: str) -> dict[str, Any]:
    found = said.get(key) if isinstance(said, dict) else None
    return found if isinstance(found, dict) else {}

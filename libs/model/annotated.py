"""Says in sentences what the annotations of a model ask for, and how to take it back. Pure.

What they mean is decided by libs/artifact/specification.py, libs/artifact/requests.py and by those who act on them.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from libs.artifact.requests import (
    EVICTED_NODES_ANNOTATION,
    PULLED_NODES_ANNOTATION,
    VERIFY_ANNOTATION,
    VERIFY_NODE_ANNOTATION,
)
from libs.artifact.specification import (
    IN_USE_GRACE_ANNOTATION,
    PRIORITY_ANNOTATION,
    REHYDRATION_ANNOTATION,
    RESIDENCY_ANNOTATION,
    REVISION_ANNOTATION,
    SKIP_PARSING_ANNOTATION,
)
from libs.artifact.wording import one_line

# What people write is their own: a sentence names so much of it.
_CHARACTERS = 100
# What an annotation with a value asks for, from its name on. None is one that only another one refers to.
SENTENCES: Mapping[str, Callable[[str], str] | None] = {
    SKIP_PARSING_ANNOTATION: lambda value: (
        "no facts are read from the files; remove it to have them read" if value == "true" else ""
    ),
    REVISION_ANNOTATION: lambda value: (
        f"nodes hold revision {value} whatever the source has; remove it to follow the source again"
    ),
    RESIDENCY_ANNOTATION: lambda value: (
        "nodes give the files up; remove it to have them fetched again" if value == "Evicted" else ""
    ),
    REHYDRATION_ANNOTATION: lambda value: f"files that were evicted came back for {value}; another word does it again",
    EVICTED_NODES_ANNOTATION: lambda value: (
        f"{value} give the files up while no Pod uses them there; remove the names to have them fetched again"
    ),
    PULLED_NODES_ANNOTATION: lambda value: f"files come back for {value}; another word does it again",
    VERIFY_ANNOTATION: lambda value: f"nodes read their copies once for {value}; another word does it again",
    VERIFY_NODE_ANNOTATION: None,
    PRIORITY_ANNOTATION: lambda value: f"downloads go by priority {value}",
    IN_USE_GRACE_ANNOTATION: lambda value: f"files that Pods use stay for at most {value} seconds after their removal",
}


def annotation_details(metadata: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each annotation that asks for something."""
    annotations = metadata.get("annotations") or {}
    for name, sentence in SENTENCES.items():
        value = annotations.get(name)
        if sentence and isinstance(value, str) and value and (said := sentence(_shown(value))):
            yield f"Annotation {name}: {said}."


def _shown(value: str) -> str:
    return " ".join(one_line(value, _CHARACTERS).split())

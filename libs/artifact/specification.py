"""What of a model object decides where its bytes come from and where they go.

The controller plans from it and the status service tells from it whether a plan answers the object as it stands now.
Must not do I/O.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from libs.artifact.requests import short_word
from libs.artifact.uri import TOKEN_PARAMETER

SKIP_PARSING_ANNOTATION = "ome.io/skip-config-parsing"
# The word of earlier versions of OME, which counts where ours is missing.
_OLDER_SKIP_PARSING_ANNOTATION = "ome.oracle.com/skip-config-parsing"
PRIORITY_ANNOTATION = "models.ome.io/priority"
IN_USE_GRACE_ANNOTATION = "models.ome.io/in-use-grace-seconds"
# Names the revision of status.history that nodes are to hold, whatever the source has now.
REVISION_ANNOTATION = "models.ome.io/revision"
# Words of OME's: with the value Evicted nodes give the model's files up; another value of the second brings them back.
RESIDENCY_ANNOTATION = "ome.io/artifact-residency"
REHYDRATION_ANNOTATION = "ome.io/artifact-rehydration-id"
EVICTED = "Evicted"
# Word of storage.residency for a model that nodes may give up.
EVICTABLE = "Evictable"
# Word of storage.revisionPolicy for a model that follows its source.
FOLLOW = "Follow"
# Words of storage.downloadPriority as numbers of the annotation, with room between and beside them.
DOWNLOAD_PRIORITIES = {"Background": -100, "Standard": 0, "High": 100}
# What is added for a model that Pods wait for: it comes before others of its word, and never before those of the next.
DEMAND_PRIORITY = 50
# Label of a model whose files stay on the nodes when it is deleted.
RESERVE_LABEL = "models.ome/reserve-model-artifact"
FINALIZER = "models.ome.io/finalizer"

_ANNOTATIONS = (
    SKIP_PARSING_ANNOTATION,
    _OLDER_SKIP_PARSING_ANNOTATION,
    PRIORITY_ANNOTATION,
    IN_USE_GRACE_ANNOTATION,
    REVISION_ANNOTATION,
    RESIDENCY_ANNOTATION,
    REHYDRATION_ANNOTATION,
)
# About 68 years: what is longer means the same.
_LONGEST_GRACE_SECONDS = 2**31 - 1


def skips_parsing(annotations: Mapping[str, str]) -> bool:
    """Whether the user asked for no facts."""
    older = annotations.get(_OLDER_SKIP_PARSING_ANNOTATION, "")
    return annotations.get(SKIP_PARSING_ANNOTATION, older).lower() == "true"


def keeps_files(labels: Mapping[str, str]) -> bool:
    """Whether the files are to stay on the nodes when the model is deleted."""
    return labels.get(RESERVE_LABEL, "").lower() == "true"


def priority_of(storage: Mapping[str, Any], annotations: Mapping[str, str]) -> int:
    """The number by which nodes choose what to fetch first, within 32 bits; the annotation counts before the spec."""
    text = annotations.get(PRIORITY_ANNOTATION)
    if text is None:
        return DOWNLOAD_PRIORITIES.get(storage.get("downloadPriority", ""), 0)
    try:
        # int32 on the wire; a number beyond it means "first" or "last" all the same.
        return max(-(2**31), min(2**31 - 1, int(text)))
    except ValueError:
        return 0


def in_use_grace_seconds(annotations: Mapping[str, str]) -> int | None:
    """For how long Pods may hold what the model lets go of; None when the nodes' own setting counts."""
    text = annotations.get(IN_USE_GRACE_ANNOTATION, "").strip()
    # What is no number must not take files from under a Pod.
    if not text.isascii() or not text.isdigit():
        return None
    # Python refuses to read numbers of thousands of digits, and an annotation has room for them.
    digits = text.lstrip("0") or "0"
    return _LONGEST_GRACE_SECONDS if len(digits) > 10 else min(int(digits), _LONGEST_GRACE_SECONDS)


def demand_of(annotations: Mapping[str, str]) -> str:
    """Names the last time that somebody asked for the model's files, in at most 64 bytes."""
    return short_word(annotations.get(REHYDRATION_ANNOTATION, ""))


def planning_digest(spec: Mapping[str, Any], annotations: Mapping[str, str]) -> str:
    """Digest of the parts of a model that planning reads: SHA-256 of their canonical JSON, in hexadecimal.

    Facts that are filled into the spec later are no part of it, so that they cause no new plan. Nor is a token that
    stands in the parameters, of which nothing leaves the controller.
    """
    storage = dict(spec.get("storage") or {})
    if TOKEN_PARAMETER in (storage.get("parameters") or {}):
        public = storage["parameters"].items()
        storage["parameters"] = {name: value for name, value in public if name != TOKEN_PARAMETER}
    read = {
        "storage": storage or None,
        "disabled": bool(spec.get("disabled")),
        "annotations": {name: annotations[name] for name in _ANNOTATIONS if name in annotations},
    }
    if spec.get("baseModelRef"):
        # Its selectors may place what has none of its own.
        read["base"] = spec["baseModelRef"]
    return hashlib.sha256(json.dumps(read, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

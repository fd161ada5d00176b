"""What of a model object decides where its bytes come from and where they go.

The controller plans from it and the status service tells from it whether a plan answers the object as it stands now.
Must not do I/O.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from libs.artifact.uri import TOKEN_PARAMETER

SKIP_PARSING_ANNOTATION = "ome.io/skip-config-parsing"
PRIORITY_ANNOTATION = "models.ome.io/priority"
FINALIZER = "models.ome.io/finalizer"

_ANNOTATIONS = (SKIP_PARSING_ANNOTATION, PRIORITY_ANNOTATION)


def skips_parsing(annotations: Mapping[str, str]) -> bool:
    """Whether the user asked for no facts."""
    return annotations.get(SKIP_PARSING_ANNOTATION, "").lower() == "true"


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
    return hashlib.sha256(json.dumps(read, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

"""A manifest as somebody sends it, before any API server has looked at it: one model, in JSON of a bounded size. Pure.

Who asks whether the sender may create it, and who plans it, must read the same: what one of them understood otherwise
would be planned with the rights to another model.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid
from libs.model.kinds import GROUP_VERSION, KINDS, model_ref
from ome.model.v1.model_pb2 import MODEL_KIND_BASE_MODEL, ModelRef

MANIFEST_BYTES = 48 << 10
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_BY_NAME = {kind.name: kind for kind in KINDS}


def read_manifest(text: str) -> dict[str, Any]:
    """The object of a manifest as it may be applied. Raises Invalid."""
    if len(text.encode(errors="surrogatepass")) > MANIFEST_BYTES:
        raise Invalid(Reason.INVALID_PARAMETER, f"the manifest has more than {MANIFEST_BYTES >> 10} KiB")
    try:
        item = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid(Reason.INVALID_PARAMETER, "the manifest is no JSON") from error
    metadata = item.get("metadata") if isinstance(item, dict) else None
    word = item.get("kind") if isinstance(item, dict) else None
    kind = _BY_NAME.get(word) if isinstance(word, str) else None
    if not isinstance(metadata, dict) or item.get("apiVersion") != GROUP_VERSION or kind is None:
        raise Invalid(Reason.INVALID_PARAMETER, f"the manifest must be one of {', '.join(sorted(_BY_NAME))}")
    namespace = metadata.get("namespace", "")
    has_place = _is_name(namespace) if kind.number == MODEL_KIND_BASE_MODEL else namespace == ""
    if not has_place or not _is_name(metadata.get("name")):
        raise Invalid(
            Reason.INVALID_PARAMETER, "the manifest must name the model, and of a BaseModel the namespace as well"
        )
    found: dict[str, Any] = item
    return found


def posted_ref(item: Mapping[str, Any]) -> ModelRef:
    """The model that the object of a manifest is of, without a uid: which one it has is not for a manifest to say."""
    return model_ref({**item, "metadata": {**item["metadata"], "uid": ""}})


def _is_name(text: object) -> bool:
    return isinstance(text, str) and bool(_NAME.fullmatch(text))

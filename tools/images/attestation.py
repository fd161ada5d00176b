"""Writes where an image comes from, as an in-toto statement with a SLSA provenance, version 1.

Unsigned, as no key of the builder's is known here: whoever publishes the image signs it. The same commit gives the same
bytes. https://slsa.dev/spec/v1.0/provenance
"""

import hashlib
import json
from collections.abc import Mapping

# Whoever builds with these commands and these inputs gets the image: the guide to installing tells how.
_BUILD_TYPE = "urn:ome-base-models:make-images:v1"
_BUILDER = "urn:ome-base-models:make-images"


def document(name: str, digest: str, revision: str, changed: bool, inputs: Mapping[str, bytes]) -> bytes:
    """The statement about an image with a name and a digest as in sha256:….

    revision is the commit that it was built from, empty where that is not known; changed says that files differed from
    it. inputs are what else decides about the content, such as locks, by path.
    """
    source: dict[str, object] = {"name": "source"}
    if revision:
        source["digest"] = {"gitCommit": revision}
    if changed or not revision:
        # Nobody else can build it again, which whoever checks it has to know.
        source["annotations"] = {"reproducible": False}
    algorithm, _, value = digest.partition(":")
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name.rpartition(":")[0], "digest": {algorithm: value}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": _BUILD_TYPE,
                "externalParameters": {"image": name},
                "resolvedDependencies": [
                    source,
                    *(
                        {"name": path, "digest": {"sha256": hashlib.sha256(content).hexdigest()}}
                        for path, content in sorted(inputs.items())
                    ),
                ],
            },
            "runDetails": {"builder": {"id": _BUILDER}},
        },
    }
    return json.dumps(statement, indent=1, sort_keys=True).encode() + b"\n"

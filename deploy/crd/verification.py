"""Schema of what nodes have found when they were asked to read their copies: a field of .status."""

from deploy.crd.schema import Schema, integer, listing, structure, text

# As services/status/verifying.py has it.
RESULTS_LIMIT = 50


def verification_field() -> Schema:
    """The field verification of .status."""
    counts: dict[str, object] = {"format": "int32", "minimum": 0}
    return structure(
        "What nodes found when they read their copies and compared them with their checksums, as the annotation "
        "models.ome.io/verify-requested-at asks. Absent if nobody has asked.",
        fields={
            "request": text("The value of the annotation; a long one is told by its SHA-256."),
            "nodes": integer("Nodes that are asked: those that hold a copy.", **counts),
            "nodesDone": integer("Of those, nodes that have answered.", **counts),
            "nodesDamaged": integer("Nodes that found damage, or could not read their copy, the last time.", **counts),
            "lastFinishedAt": text("When the last of the results was found.", format="date-time"),
            "results": listing(
                "What each node found the last time, for at most 50 nodes: those with damage first.",
                structure(
                    "What one node found.",
                    required=["node"],
                    fields={
                        "node": text("Name of the node."),
                        "request": text("The request that it answers."),
                        "finishedAt": text("When the last file was read.", format="date-time"),
                        "digest": text("Name of the set of files that was read."),
                        "bytes": integer("Sum of the sizes of its files.", minimum=0),
                        "damaged": integer(
                            "Files that were missing or not what they should be; the node fetches them again.", **counts
                        ),
                        "files": listing("The first of them.", text("Path of a file."), maxItems=3),
                        "problem": text("Why the copy could not be read."),
                    },
                ),
                maxItems=RESULTS_LIMIT,
            ),
        },
    )

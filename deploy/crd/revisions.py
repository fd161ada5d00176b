"""Schema of how a model goes from one revision to the next: fields of spec.storage and of .status."""

from deploy.crd.schema import Schema, integer, listing, rule, structure, text

# As services/controller/revisions.py has it.
REMEMBERED = 5
# As services/status/history.py has it.
NAMED_NODES = 10

REVISION_RULES = (
    rule(
        "!has(self.followIntervalSeconds) || (has(self.revisionPolicy) && self.revisionPolicy == 'Follow')",
        "followIntervalSeconds has no effect without revisionPolicy: Follow; add that or remove the interval",
    ),
    rule(
        "!has(self.revisionPolicy) || self.revisionPolicy != 'Follow' || !has(self.storageUri)"
        " || !self.storageUri.matches('^(pvc|local)://')",
        "revisionPolicy: Follow is for sources that OME lists; remove it for pvc:// and local://, which are read in "
        "place as they are",
    ),
)


def revision_fields() -> dict[str, Schema]:
    """The fields of spec.storage."""
    count: dict[str, object] = {"format": "int32", "minimum": 0, "maximum": 100000}
    return {
        "residency": text(
            "Always: nodes keep the model as long as they are meant for it. Evictable: a node that needs the room "
            "gives it up when no Pod uses it, and fetches it again when it is needed. Always is the default.",
            enum=["Always", "Evictable"],
        ),
        "revisionPolicy": text(
            "Pinned: OME lists the source once, and nodes keep what was listed until you edit the source. Follow: OME "
            "lists it again and again, and nodes take what is new. Pinned is the default.",
            enum=["Pinned", "Follow"],
        ),
        "followIntervalSeconds": integer(
            "For revisionPolicy: Follow, seconds between two listings, a fifth more or less. Default: followSeconds "
            "of the controller's chart.",
            minimum=30,
            maximum=2592000,
        ),
        "revisionHistoryLimit": integer(
            "How many earlier revisions nodes keep beside the present one, so that going back to them needs no "
            "download. A node that needs the room gives them up first. Default: 0.",
            minimum=0,
            maximum=REMEMBERED - 1,
        ),
        "rollout": structure(
            "In which order nodes take a new revision while others keep the earlier one. Without rollout, all take it "
            "at once. It does not delay the first revision.",
            rule(
                "!has(self.pauseSeconds) || self.pauseSeconds == 0 || (has(self.canary) && self.canary > 0)",
                "pauseSeconds is the pause after the first nodes; say by canary how many these are",
            ),
            fields={
                "maxConcurrentNodes": integer(
                    "Nodes that fetch the new revision at the same time; a node on which it fails counts. Default and "
                    "0: no limit.",
                    **count,
                ),
                "canary": integer(
                    "Nodes that take the new revision first. The others keep the earlier one until these are ready, "
                    "for ever if it fails there. Default: 0.",
                    **count,
                ),
                "pauseSeconds": integer(
                    "Seconds between the moment when the first nodes are ready and the next ones. Default: 0.",
                    minimum=0,
                    maximum=2592000,
                ),
            },
        ),
    }


def history_field() -> Schema:
    """The field history of .status."""
    return listing(
        "The last revisions that nodes were to hold, the newest first. The annotation models.ome.io/revision goes back "
        "to one of them.",
        structure(
            "One revision.",
            required=["digest"],
            fields={
                "digest": text("Name of the set of files."),
                "sourceRevision": text("Name of the revision at the source, such as a Git commit."),
                "bytes": integer("Sum of the sizes of all files.", minimum=0),
                "files": integer("Number of files.", minimum=0),
                "nodes": integer("Number of nodes that have all its files.", minimum=0),
                "onNodes": listing("Some of these nodes, by name.", text("Name of a node."), maxItems=NAMED_NODES),
                "since": text("Time when OME decided that nodes hold it.", format="date-time"),
                "source": text("Names the source, its parameters and its Secret, of which the revision is."),
            },
        ),
        maxItems=REMEMBERED,
    )

"""Who has to do what about each reason, and what OME does by itself meanwhile. Says it in sentences; decides nothing.

docs/guides/troubleshooting.md tells the same at length. Pure.
"""

from dataclasses import dataclass
from enum import StrEnum

from libs.artifact.findings import Finding
from libs.artifact.reasons import Reason


class Who(StrEnum):
    """Who can end a state of affairs."""

    NOBODY = "nobody"
    OWNER = "the model's owner"
    ADMINISTRATOR = "the cluster's administrator"
    PUBLISHER = "whoever publishes the model"


class Retry(StrEnum):
    """What OME does by itself, as a sentence."""

    NONE = "OME waits until somebody changes that."
    EDIT = "OME tries again as soon as the model is changed."
    NODE = "The node tries again by itself, with pauses of at most 5 minutes."
    SOON = "The node looks again by itself, at least every 15 seconds."
    ROOM = "The node tries again as soon as another model leaves it, and by itself with pauses of at most 5 minutes."
    LISTING = "OME lists the source again by itself, with pauses of at most 10 minutes."
    WATCHED = "OME sees the change at once."
    HEARD = "OME notices by itself when the fetcher reports again."
    HEALED = "OME goes on by itself as soon as that is cured."
    WORKING = "OME goes on by itself."


@dataclass(frozen=True)
class Remedy:
    """What ends a state of affairs: who must do what, and what OME does without being told."""

    who: Who
    what: str
    retry: Retry = Retry.NODE


# Who knows the model says which Secret that is.
CREDENTIALS_PLACE = "the Secret that the model names"
_NOTHING = "Nobody needs to do anything."

# By word, as conditions have them: among them those of what a weight is made for, and of waiting without a cause yet.
_REMEDIES: dict[str, Remedy] = {
    "Pending": Remedy(Who.NOBODY, "Look at the controller's Pods, if it takes more than a minute.", Retry.WORKING),
    "BaseNotFound": Remedy(Who.OWNER, "Create the base model, or correct the reference to it.", Retry.WATCHED),
    "IncompatibleBase": Remedy(Who.OWNER, "Name the base model that the weight was made for.", Retry.EDIT),
    Reason.INVALID_URI: Remedy(Who.OWNER, "Write storage.storageUri in one of the forms that OME knows.", Retry.EDIT),
    Reason.INVALID_PATH: Remedy(Who.OWNER, "Choose a storage.path below a model root of the nodes.", Retry.EDIT),
    Reason.INVALID_PLACEMENT: Remedy(Who.OWNER, "Correct storage.nodeSelector or storage.nodeAffinity.", Retry.EDIT),
    Reason.INVALID_LISTING: Remedy(
        Who.PUBLISHER,
        "Rename the file at the source, or have storage.parameters.ignorePatterns leave it out.",
        Retry.LISTING,
    ),
    Reason.INVALID_PARAMETER: Remedy(
        Who.OWNER, "Correct or remove the parameter, or the value in the Secret.", Retry.EDIT
    ),
    Reason.UNSUPPORTED_BACKEND: Remedy(
        Who.ADMINISTRATOR, "Upgrade the fetcher on the node, or give it a driver for the vendor.", Retry.EDIT
    ),
    Reason.NOT_FOUND: Remedy(
        Who.OWNER, "Correct storage.storageUri, or give the token the right to read the source.", Retry.NODE
    ),
    Reason.FORBIDDEN: Remedy(Who.OWNER, f"Put a valid credential into {CREDENTIALS_PLACE}."),
    Reason.GATED: Remedy(Who.OWNER, "Accept the terms on the repository's page, with the account that owns the token."),
    Reason.SECRET_NOT_FOUND: Remedy(
        Who.OWNER, "Create the Secret or the key in it, in a namespace in which OME may read Secrets."
    ),
    Reason.UNAVAILABLE: Remedy(
        Who.ADMINISTRATOR, "Look at the network, DNS and proxy between the node and the source, if it lasts."
    ),
    Reason.RATE_LIMITED: Remedy(Who.OWNER, "Wait, or name a Secret with a token: known accounts get more requests."),
    Reason.CHECKSUM_MISMATCH: Remedy(
        Who.ADMINISTRATOR,
        "Look at proxies and caches between the node and the source; upload the file again if it is wrong there.",
    ),
    Reason.SOURCE_CHANGED: Remedy(Who.NOBODY, _NOTHING, Retry.LISTING),
    Reason.INSUFFICIENT_DISK: Remedy(
        Who.ADMINISTRATOR,
        "Remove models from the node, enlarge its disk, or choose a path below another model root.",
        Retry.ROOM,
    ),
    Reason.DISK_ERROR: Remedy(Who.ADMINISTRATOR, "Repair or mount the disk of the node, or correct who owns the root."),
    Reason.PATH_OCCUPIED: Remedy(
        Who.ADMINISTRATOR, "Move away what stands at the path on the node, or choose another storage.path.", Retry.SOON
    ),
    Reason.ARTIFACT_DAMAGED: Remedy(
        Who.NOBODY, "The node fetches the damaged file again. Replace the disk if it recurs."
    ),
    Reason.PARSE_FAILED: Remedy(
        Who.PUBLISHER, 'Correct the file, or annotate the model with ome.io/skip-config-parsing: "true".'
    ),
    Reason.NO_CONFIG: Remedy(
        Who.OWNER, "Name the configuration file in storage.schemaPath, or fill in the fields of spec."
    ),
    Reason.NO_MATCHING_NODE: Remedy(
        Who.ADMINISTRATOR,
        "Label a node as the model asks, uncordon one, or change the model's selectors.",
        Retry.WATCHED,
    ),
    Reason.NO_STORAGE: Remedy(Who.NOBODY, "Add spec.storage if OME is to fetch something.", Retry.WATCHED),
    Reason.DISABLED: Remedy(Who.OWNER, "Set spec.disabled to false to have the model fetched.", Retry.WATCHED),
    Reason.RESOLVING: Remedy(
        Who.NOBODY, "Look whether any resolver or fetcher is ready, if it takes minutes.", Retry.WORKING
    ),
    Reason.DOWNLOADING: Remedy(Who.NOBODY, _NOTHING, Retry.WORKING),
    Reason.QUEUED: Remedy(
        Who.NOBODY,
        "Raise models.ome.io/priority, or parallelDownloads of the fetcher's chart, if it takes too long.",
        Retry.WORKING,
    ),
    Reason.NODE_UNREACHABLE: Remedy(
        Who.ADMINISTRATOR,
        "Look whether a fetcher's Pod runs on the node, or exclude the node by the model's selectors.",
        Retry.HEARD,
    ),
    Reason.DELETING: Remedy(Who.NOBODY, _NOTHING, Retry.WORKING),
    Reason.INTERNAL: Remedy(Who.ADMINISTRATOR, "Report the defect with the log that the message names."),
    Reason.VOLUME_NOT_READY: Remedy(Who.OWNER, "Create or repair the PersistentVolumeClaim.", Retry.LISTING),
    Reason.PATH_CONFLICT: Remedy(Who.OWNER, "Give one of the two models another storage.path.", Retry.SOON),
    Reason.OVERLOADED: Remedy(Who.ADMINISTRATOR, "Give the parser more replicas, if it lasts."),
    Reason.CONFLICT: Remedy(Who.NOBODY, _NOTHING),
    Reason.INVALID_REQUEST: Remedy(Who.ADMINISTRATOR, "Report the defect; services of two versions may be mixed."),
    Reason.SECRET_REFUSED: Remedy(
        Who.OWNER, "Annotate the Secret with models.ome.io/allowed-hosts, or use https:// and a Secret of another type."
    ),
    Reason.IDENTITY_REFUSED: Remedy(
        Who.OWNER, "Name a Secret, or ask the administrator to list the namespace in identity.namespaces."
    ),
    Reason.EGRESS_REFUSED: Remedy(
        Who.ADMINISTRATOR, "List the host or network in egress.allow, or have the model use a public address."
    ),
    Reason.IN_USE: Remedy(
        Who.NOBODY, "End the Pods that the message names, if the files are to go earlier.", Retry.WORKING
    ),
    Reason.EVICTED: Remedy(
        Who.OWNER,
        "Have a Pod use the model, give it another ome.io/artifact-rehydration-id, or set storage.residency: Always.",
        Retry.WORKING,
    ),
    Reason.BUDGET_EXCEEDED: Remedy(
        Who.OWNER,
        "Delete models of the namespace or have them select fewer nodes, or ask an administrator to raise "
        "namespaceBudgets of the controller's chart.",
        Retry.WATCHED,
    ),
    Reason.INCOMPLETE: Remedy(
        Who.PUBLISHER, 'Publish the missing files, or set storage.parameters.allowIncomplete: "true".', Retry.LISTING
    ),
}
_WELL = Remedy(Who.NOBODY, _NOTHING, Retry.WORKING)
# What is said of a rollout, of a weight and its base, and where all is well.
_REMEDIES |= {
    "RolloutHalted": Remedy(
        Who.OWNER,
        "Cure what fails on the nodes that take the new revision first, or go back by the annotation "
        "models.ome.io/revision.",
        Retry.HEALED,
    ),
    "RolloutPaused": _WELL,
    "RollingOut": _WELL,
    "RevisionLost": Remedy(Who.OWNER, "Name a revision in storage.storageUri to give all nodes the same.", Retry.EDIT),
    "OtherBaseNamed": Remedy(
        Who.OWNER, "Correct baseModelRef, unless the repository that the adapter names is a copy.", Retry.EDIT
    ),
    "BaseDeleted": Remedy(Who.OWNER, "Delete the weights too, or give them another base.", Retry.WATCHED),
    **dict.fromkeys(
        (
            "AllNodesReady",
            "AllNodesUpdated",
            "AsExpected",
            "Available",
            "BaseNamed",
            "Found",
            "Listed",
            "MergedWeights",
            "ModulesFit",
            "NodesReady",
            "NothingToResolve",
            "Parsed",
            "ParsingSkipped",
            "Ready",
            "Recovered",
            "Resolved",
            "Unproven",
            "VolumeReady",
            "WeightsRefer",
            "Whole",
        ),
        _WELL,
    ),
}
_PUBLISH = Remedy(Who.PUBLISHER, "Publish the files that are missing or damaged.", Retry.LISTING)
_LOOK = Remedy(Who.OWNER, "Look whether whatever serves the model reads these files.", Retry.EDIT)
# What is odd about the files themselves.
_REMEDIES |= {
    **dict.fromkeys(
        (
            Finding.MISSING_SHARDS,
            Finding.MISSING_FILES,
            Finding.MISSING_PART,
            Finding.EMPTY_FILE,
            Finding.TRUNCATED_FILE,
            Finding.NO_WEIGHTS,
            Finding.NO_TOKENIZER,
        ),
        _PUBLISH,
    ),
    Finding.POINTER_FILE: Remedy(
        Who.PUBLISHER, "Upload the file itself: what stands there points to it in Git LFS.", Retry.LISTING
    ),
    Finding.ERROR_PAGE: Remedy(
        Who.PUBLISHER,
        "Upload the file again: what stands there is a web page that was saved in its place.",
        Retry.LISTING,
    ),
    **dict.fromkeys((Finding.OTHER_FORMAT, Finding.UNKNOWN_WEIGHTS, Finding.ODD_FILE, Finding.EXTRA_SHARDS), _LOOK),
    **dict.fromkeys(
        (Finding.VARIANT_CHOSEN, Finding.SEVERAL_VARIANTS, Finding.FILES_LEFT_OUT),
        Remedy(
            Who.OWNER,
            "Choose files by storage.parameters.allowPatterns and ignorePatterns, if others are meant.",
            Retry.EDIT,
        ),
    ),
    Finding.PICKLED_WEIGHTS: Remedy(
        Who.OWNER, "Load such files only from a publisher that you trust: they can hold programs.", Retry.EDIT
    ),
}
# Failures of the listing are tried again whatever the reason is.
_UNLISTED = frozenset({Retry.EDIT, Retry.NODE})


def remedy_of(word: str) -> Remedy | None:
    """Who must do what about a reason; None for a word that is newer than this program."""
    return _REMEDIES.get(word)


def retry_of_listing(retry: Retry) -> Retry:
    """What OME does by itself when it is the listing of the source that failed, rather than a node."""
    return Retry.LISTING if retry in _UNLISTED else retry

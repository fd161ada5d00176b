"""Names by which the services find each other's data in NATS: buckets, keys and subjects.

The one place that spells them; docs/adr/0002-nats-layout.md says what each holds. Must not import nats.
"""

import hashlib

from libs.artifact.digest import digest_directory

DESIRED_BUCKET = "ome-desired"
OBSERVED_BUCKET = "ome-observed"
NODES_BUCKET = "ome-nodes"
PLANS_BUCKET = "ome-plans"
RESOLVED_BUCKET = "ome-resolved"
FACTS_BUCKET = "ome-facts"
MANIFESTS_BUCKET = "ome-manifests"
RESOLVE_STREAM = "ome-resolve"


def node_token(node: str) -> str:
    """Encode a Kubernetes node name as one NATS token.

    Node names are DNS subdomains (RFC 1123): they may contain dots, which separate tokens, and never
    underscores. So a dot becomes an underscore and back.
    """
    if "_" in node or not node:
        raise ValueError(f"{node!r} is not a node name: an RFC 1123 subdomain has no underscore and is not empty")
    return node.replace(".", "_")


def node_name(token: str) -> str:
    """Decode what node_token encoded."""
    return token.replace("_", ".")


def node_key(node: str, model_uid: str) -> str:
    """Key of one model on one node, in the buckets of desired and observed state."""
    return f"{node_token(node)}.{model_uid}"


def trace_key(model_uid: str, digest: str, node: str) -> str:
    """What the trace of one revision of a model on one node is known by, to each service alike."""
    return f"{model_uid} {digest} {node}"


def split_node_key(key: str) -> tuple[str, str]:
    """Return (node name, model uid) of a key that node_key made."""
    token, separator, model_uid = key.partition(".")
    if not (token and separator and model_uid):
        raise ValueError(f"{key!r} is not of the form <node>.<model-uid>")
    return node_name(token), model_uid


def facts_key(artifact_digest: str, schema_path: str, version: str) -> str:
    """Key of the facts about one artifact, read with one schema path by one version of the services."""
    how = hashlib.sha256(f"{version}/{schema_path}".encode()).hexdigest()[:16]
    return f"{digest_directory(artifact_digest)}.{how}"


def resolve_subject(pool: str) -> str:
    """Subject of the work queue that the fetchers of a pool take resolve tasks from."""
    return f"ome.resolve.{pool}"


# What a node may say and ask, and the one subject on which it is told something: the last tokens of its subjects.
DESIRED, SNAPSHOT = "desired", "snapshot"
OBSERVED, RECALL, PROGRESS, HEARTBEAT = "observed", "recall", "progress", "heartbeat"
MANIFEST, FACTS, CREDENTIALS, USE = "manifest", "facts", "credentials", "use"
# On which resolvers ask for the secrets of models whose sources are to be listed.
LISTING_CREDENTIALS_SUBJECT = "ome.listing.credentials"
# On which they ask whether a listing that takes long is still wanted.
LISTING_WANTED_SUBJECT = "ome.listing.wanted"
# On which the status service asks the controller what would come of a manifest.
FORECAST_SUBJECT = "ome.forecast"
# On which it tells the controller that a hub says that a repository has changed.
SOURCE_CHANGED_SUBJECT = "ome.source.changed"
# On which it asks which files an artifact has.
FILES_SUBJECT = "ome.files"


def trial_subject(pool: str) -> str:
    """Subject on which the controller has a resolver of a pool list a source that no model has yet; "*" for any."""
    return f"ome.trial.{pool}"


def node_subject(node: str, verb: str, model_uid: str = "") -> str:
    """Subject between one node and the gateway, in the account of the nodes; "*" stands for any node."""
    token = node if node == "*" else node_token(node)
    return f"ome.node.{token}.{verb}" + (f".{model_uid}" if model_uid else "")


def inbox_prefix(node: str) -> str:
    """Prefix of the inboxes of a node: answers to others cannot be listened to."""
    return f"_INBOX_{node_token(node)}"


def progress_subject(node: str, model_uid: str) -> str:
    """Subject of a node's progress with one model; "*" stands for any."""
    token = node if node == "*" else node_token(node)
    return f"ome.progress.{token}.{model_uid}"


# Under which JetStream answers the status service and resolvers, as their accounts import from the fleet's. Under the
# usual prefix the server would say that the account has no JetStream.
FOREIGN_API = "ome.api"
# What the status service reads.
REPORTED_BUCKETS = (PLANS_BUCKET, OBSERVED_BUCKET, FACTS_BUCKET, NODES_BUCKET)


def follow_subject(bucket: str, consumer: str) -> str:
    """Subject on which the status service asks for a consumer of a bucket by a name; "*" stands for any."""
    return f"ome.follow.{bucket}.{consumer}"


def use_subject(node: str) -> str:
    """Subject on which the gateway asks the controller about Pods on a node's behalf; "*" stands for any node."""
    token = node if node == "*" else node_token(node)
    return f"ome.use.{token}"


def credentials_subject(node: str) -> str:
    """Subject on which the gateway asks the controller for secrets on a node's behalf; "*" stands for any node."""
    token = node if node == "*" else node_token(node)
    return f"ome.credentials.{token}"

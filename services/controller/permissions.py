"""What a node's fetcher may do in NATS: exactly what its own models need. Pure."""

from dataclasses import dataclass

from libs.artifact import names


@dataclass(frozen=True)
class Permissions:
    """Subjects that a connection may publish to and subscribe to."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def inbox_prefix(node: str) -> str:
    """Prefix of the inboxes of a node: replies to others cannot be listened to."""
    return f"_INBOX_{names.node_token(node)}"


def node_permissions(node: str) -> Permissions:
    """The rights of the fetcher on one node.

    It may read its own assignments, write its own observed state, heartbeat and progress, ask for its own credentials,
    take listings from its pool's queue and answer them, share facts, and read and write manifests, which are named by
    their digest and checked by every reader.
    """
    token = names.node_token(node)
    desired, observed = names.DESIRED_BUCKET, names.OBSERVED_BUCKET
    manifests = names.MANIFESTS_BUCKET
    return Permissions(
        publish=(
            # The server holds the filter of a mirror's consumer against the one in this subject.
            f"$JS.API.CONSUMER.CREATE.KV_{desired}.*.$KV.{desired}.{token}.>",
            f"$JS.API.DIRECT.GET.KV_{observed}.$KV.{observed}.{token}.>",
            f"$KV.{observed}.{token}.>",
            f"$KV.{names.NODES_BUCKET}.{token}",
            f"$JS.API.CONSUMER.MSG.NEXT.{names.RESOLVE_STREAM}.*",
            f"$JS.ACK.{names.RESOLVE_STREAM}.>",
            f"$JS.API.DIRECT.GET.KV_{names.RESOLVED_BUCKET}.>",
            f"$KV.{names.RESOLVED_BUCKET}.>",
            f"$JS.API.DIRECT.GET.KV_{names.FACTS_BUCKET}.>",
            f"$KV.{names.FACTS_BUCKET}.>",
            "$JS.API.STREAM.NAMES",
            f"$JS.API.STREAM.INFO.OBJ_{manifests}",
            f"$JS.API.STREAM.MSG.GET.OBJ_{manifests}",
            f"$JS.API.DIRECT.GET.OBJ_{manifests}.>",
            f"$JS.API.CONSUMER.CREATE.OBJ_{manifests}",
            f"$JS.FC.OBJ_{manifests}.>",
            f"$O.{manifests}.>",
            f"ome.progress.{token}.>",
            names.credentials_subject(node),
        ),
        subscribe=(f"{inbox_prefix(node)}.>",),
    )

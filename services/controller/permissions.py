"""Who may do what in NATS: the one source of it for the gateway, the local cluster, the tests and the guide. Pure.

Four accounts: the fleet's (OME), which has JetStream, the nodes' (NODES), that of the status service (STATUS) and that
of the resolvers (RESOLVERS). In NODES a fetcher has a few subjects of its own; the gateway alone is in both. STATUS and
RESOLVERS have nothing but what they import: what is asked in them is answered in them, whatever reply subject it names.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from libs.artifact import names

OME, NODES, STATUS, RESOLVERS = "OME", "NODES", "STATUS", "RESOLVERS"
# What a fetcher may publish; one more subject is its progress.
_NODE_VERBS = (
    names.SNAPSHOT,
    names.OBSERVED,
    names.RECALL,
    names.HEARTBEAT,
    names.MANIFEST,
    names.FACTS,
    names.CREDENTIALS,
    names.USE,
)
# A connection in the nodes' account may have so many subscriptions, of which a fetcher needs three. The server takes
# no notice of a limit in the user's own claims when an auth callout has placed it.
NODES_LIMITS = {"max_subscriptions": 64, "max_payload": 1 << 20}

# Longer than a listing on trial may take.
_ANSWER_TIME = "60s"


@dataclass(frozen=True)
class Permissions:
    """Subjects that a connection may publish to and subscribe to; denied ones are taken from the permitted."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    deny_publish: tuple[str, ...] = ()
    # Whether it may answer what it is asked, once each, wherever the answer is to go.
    answers: bool = False

    def document(self) -> dict[str, object]:
        """As the server's configuration has it."""
        publish: object = list(self.publish)
        if self.deny_publish:
            publish = {"allow": publish, "deny": list(self.deny_publish)}
        document = {"publish": publish, "subscribe": list(self.subscribe)}
        return document | ({"allow_responses": {"max": 1, "expires": _ANSWER_TIME}} if self.answers else {})


def node_permissions(node: str) -> Permissions:
    """The rights of the fetcher on one node: to speak for this node, and to hear what is meant for it."""
    verbs = tuple(names.node_subject(node, verb) for verb in _NODE_VERBS)
    return Permissions(
        publish=(*verbs, names.node_subject(node, names.PROGRESS, "*")),
        subscribe=(names.node_subject(node, names.DESIRED), f"{names.inbox_prefix(node)}.>"),
    )


def gateway_nodes_permissions() -> Permissions:
    """The rights of the gateway in the nodes' account: to hear all nodes, to answer them, to tell them what to hold.

    It may not publish what a node may: should an answer ever be led astray, it says nothing for another node.
    """
    heard = (
        *(names.node_subject("*", verb) for verb in _NODE_VERBS),
        names.node_subject("*", names.PROGRESS, "*"),
    )
    return Permissions(publish=(">",), subscribe=heard, deny_publish=("$SYS.>", "$JS.>", *heard))


def gateway_permissions() -> Permissions:
    """The rights of the gateway in the fleet's account: it vouches for nodes, and reads and writes on their behalf."""
    desired, observed, facts = names.DESIRED_BUCKET, names.OBSERVED_BUCKET, names.FACTS_BUCKET
    return Permissions(
        publish=(
            *_reading(f"KV_{desired}"),
            f"$JS.API.STREAM.INFO.OBJ_{names.MANIFESTS_BUCKET}",
            *_reading_objects(names.MANIFESTS_BUCKET),
            f"$JS.API.DIRECT.GET.KV_{observed}",
            f"$JS.API.DIRECT.GET.KV_{observed}.>",
            f"$KV.{observed}.>",
            f"$JS.API.DIRECT.GET.KV_{facts}.>",
            f"$KV.{facts}.>",
            f"$KV.{names.NODES_BUCKET}.*",
            names.progress_subject("*", "*"),
            names.credentials_subject("*"),
            names.use_subject("*"),
            # For the status service: consumers of what it may read, and the answers to another account.
            *(f"$JS.API.CONSUMER.CREATE.KV_{bucket}.>" for bucket in names.REPORTED_BUCKETS),
            "_R_.>",
            # Where the server waits for the answer of an auth callout.
            "$SYS._INBOX.>",
        ),
        subscribe=("_INBOX_gateway.>", "$SYS.REQ.USER.AUTH", names.follow_subject("*", "*")),
    )


def _listed() -> dict[str, tuple[str, str]]:
    """What resolvers may ask the fleet's account, as _reported has it: take tasks, ask for the secrets that these need,
    write what was found.

    They may make no consumer either, and read what they have written message by message.
    """
    stream, resolved, manifests = names.RESOLVE_STREAM, names.RESOLVED_BUCKET, names.MANIFESTS_BUCKET
    asked = {
        f"$JS.API.{verb}": (f"{names.FOREIGN_API}.{verb}", answers)
        for verb, answers in (
            (f"CONSUMER.MSG.NEXT.{stream}.*", "stream"),
            (f"DIRECT.GET.KV_{resolved}.>", "single"),
            (f"STREAM.INFO.OBJ_{manifests}", "single"),
            (f"STREAM.MSG.GET.OBJ_{manifests}", "single"),
            (f"STREAM.PURGE.OBJ_{manifests}", "single"),
        )
    }
    same = (
        f"$JS.ACK.{stream}.>",
        f"$KV.{resolved}.>",
        f"$O.{manifests}.>",
        names.LISTING_CREDENTIALS_SUBJECT,
        names.LISTING_WANTED_SUBJECT,
    )
    return asked | {subject: (subject, "single") for subject in same}


def resolver_permissions() -> Permissions:
    """The rights of what lists sources, in an account of its own: to ask what it imports, and to answer trials."""
    return Permissions(
        publish=tuple(own for own, _ in _listed().values()),
        subscribe=("_INBOX_resolver.>", names.trial_subject("*")),
        answers=True,
    )


def earlier_resolver_permissions() -> Permissions:
    """The rights of resolvers of before docs/adr/0053-resolver-account.md, which go on listing until they are upgraded.

    No Pod of this version has the password of their user.
    """
    stream, resolved, manifests = names.RESOLVE_STREAM, names.RESOLVED_BUCKET, names.MANIFESTS_BUCKET
    return Permissions(
        publish=(
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*",
            f"$JS.ACK.{stream}.>",
            f"$JS.API.DIRECT.GET.KV_{resolved}.>",
            f"$KV.{resolved}.>",
            f"$JS.API.STREAM.INFO.OBJ_{manifests}",
            *_reading_objects(manifests),
            f"$JS.API.STREAM.PURGE.OBJ_{manifests}",
            f"$O.{manifests}.>",
            names.LISTING_CREDENTIALS_SUBJECT,
            names.LISTING_WANTED_SUBJECT,
        ),
        subscribe=("_INBOX_resolver.>",),
    )


def _reported() -> dict[str, tuple[str, str]]:
    """What the status service may ask the fleet's account: by the subject there, its own subject for it, and whether
    one answer comes or several."""
    subjects = (names.FORECAST_SUBJECT, names.SOURCE_CHANGED_SUBJECT, names.FILES_SUBJECT)
    asked = {subject: (subject, "single") for subject in subjects}
    for bucket in names.REPORTED_BUCKETS:
        for verb, answers in (
            (f"STREAM.INFO.KV_{bucket}", "single"),
            (f"DIRECT.GET.KV_{bucket}", "single"),
            (f"CONSUMER.MSG.NEXT.KV_{bucket}.*", "stream"),
        ):
            asked[f"$JS.API.{verb}"] = f"{names.FOREIGN_API}.{verb}", answers
        following = names.follow_subject(bucket, "*")
        asked[following] = following, "single"
    return asked


def status_permissions() -> Permissions:
    """The status service reads four buckets and progress, asks for plans and lists of files, passes on that a hub says
    that something has changed, and writes nothing.

    It is in an account of its own: whatever place it names for an answer is in that account, where nothing is stored
    and nobody listens. It may make no consumer, as that would deliver in the fleet's account; the gateway makes them.
    """
    return Permissions(
        tuple(own for own, _ in _reported().values()), ("_INBOX_status.>", names.progress_subject("*", "*"))
    )


def accounts(passwords: Mapping[str, object]) -> dict[str, object]:
    """The accounts of the server's configuration; passwords by user name, in whatever form the configuration has them.

    The users of USERS have passwords. Fetchers have none: whoever shows none of these is asked about by auth callout.
    """
    progress, trials = names.progress_subject("*", "*"), names.trial_subject("*")
    users = {
        "controller": None,
        "gateway": gateway_permissions(),
        "resolver": earlier_resolver_permissions(),
    }
    return {
        OME: {
            "jetstream": "enabled",
            "exports": [
                {"stream": progress, "accounts": [STATUS]},
                *_exports(_reported(), STATUS),
                *_exports(_listed(), RESOLVERS),
            ],
            "imports": [{"service": {"account": RESOLVERS, "subject": trials}}],
            "users": [_user(user, passwords[user], permissions) for user, permissions in users.items()],
        },
        STATUS: {
            "imports": [{"stream": {"account": OME, "subject": progress}}, *_imports(_reported())],
            "users": [_user("status", passwords["status"], status_permissions())],
        },
        RESOLVERS: {
            "exports": [{"service": trials, "response_type": "single", "accounts": [OME]}],
            "imports": _imports(_listed()),
            "users": [_user("resolvers", passwords["resolvers"], resolver_permissions())],
        },
        NODES: {
            "limits": NODES_LIMITS,
            "users": [_user("gateway-nodes", passwords["gateway-nodes"], gateway_nodes_permissions())],
        },
        "SYS": {"users": []},
    }


USERS = ("controller", "status", "gateway", "resolver", "resolvers", "gateway-nodes")


def _exports(asked: dict[str, tuple[str, str]], account: str) -> list[dict[str, object]]:
    return [
        {"service": subject, "response_type": answers, "accounts": [account]} for subject, (_, answers) in asked.items()
    ]


def _imports(asked: dict[str, tuple[str, str]]) -> list[dict[str, object]]:
    return [{"service": {"account": OME, "subject": subject}, "to": own} for subject, (own, _) in asked.items()]


def _user(name: str, password: object, permissions: Permissions | None) -> dict[str, object]:
    user: dict[str, object] = {"user": name, "password": password}
    return user | ({"permissions": permissions.document()} if permissions else {})


def _reading(stream: str) -> tuple[str, ...]:
    """What following a bucket takes."""
    return (
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.DIRECT.GET.{stream}",
        f"$JS.API.DIRECT.GET.{stream}.>",
        f"$JS.API.CONSUMER.CREATE.{stream}.>",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*",
    )


def _reading_objects(bucket: str) -> tuple[str, ...]:
    """What reading objects takes, as nats-py does it."""
    return (
        f"$JS.API.STREAM.MSG.GET.OBJ_{bucket}",
        f"$JS.API.DIRECT.GET.OBJ_{bucket}.>",
        f"$JS.API.CONSUMER.CREATE.OBJ_{bucket}",
        f"$JS.API.CONSUMER.CREATE.OBJ_{bucket}.>",
        f"$JS.API.CONSUMER.DELETE.OBJ_{bucket}.*",
        f"$JS.FC.OBJ_{bucket}.>",
        "$JS.API.STREAM.NAMES",
    )

"""What the gateway takes from a node: identifiers that cannot mean anything else, messages of bounded size. Pure.

A node that was taken over may send anything. What passes here says nothing about any other node, and cannot harm those
who read it later.
"""

import re

from libs.artifact import names
from libs.artifact.digest import digest_directory, is_digest
from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.artifact.wording import one_line
from libs.model.bounds import WORD_CHARACTERS, bound_numbers, bound_texts
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2

# RFC 1123 subdomains with "_" for ".", as names.node_token makes them.
_NODE_TOKEN = re.compile(r"[a-z0-9]([a-z0-9_-]{0,251}[a-z0-9])?")
# metadata.uid is a UUID; tests use other words. One token of a subject in any case.
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,127}")
_INBOX_REST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
# As names.facts_key makes them.
_FACTS_KEY = re.compile(r"sha256-[0-9a-f]{64}\.[0-9a-f]{16}")
_PATH_CHARACTERS = 4096
_MOST_ROOTS = 64
# More than there are schemes.
_MOST_RATES = 32
# As fetchers ask: by the path of a name and by that of its copy.
_MOST_QUESTIONS, _MOST_PATHS = 256, 4
# Copies without a name, and Pods that use one, that a state may tell of.
_MOST_HELD, _MOST_USERS = 8, 8
# Damaged files that a state may name.
_MOST_FILES = 3


def read_subject(subject: str) -> tuple[str, str, str]:
    """Node, verb and the rest of ome.node.<node>.<verb>[.<rest>]. Raises InvalidValue."""
    tokens = subject.split(".", 4)
    if len(tokens) < 4 or tokens[:2] != ["ome", "node"] or not _NODE_TOKEN.fullmatch(tokens[2]):
        raise _invalid("the subject names no node")
    return names.node_name(tokens[2]), tokens[3], tokens[4] if len(tokens) == 5 else ""


def is_own_inbox(node: str, reply: str) -> bool:
    """Whether an answer would go to the node that asks, and to nothing else."""
    prefix = names.inbox_prefix(node) + "."
    return reply.startswith(prefix) and _INBOX_REST.fullmatch(reply.removeprefix(prefix)) is not None


def check_uid(uid: str) -> str:
    """Return a metadata.uid. Raises InvalidValue."""
    if not _UID.fullmatch(uid):
        raise _invalid("the message names no model")
    return uid


def check_digest(digest: str) -> str:
    """Return the digest of an artifact. Raises InvalidValue."""
    if not is_digest(digest):
        raise _invalid("the message names no artifact")
    return digest


def bounded_state(state: fetch_pb2.NodeModelState) -> fetch_pb2.NodeModelState:
    """A state with texts of bounded length. Raises InvalidValue when it is of no model or names no artifact."""
    check_uid(state.model.uid)
    if state.HasField("artifact"):
        check_digest(state.artifact.digest)
    bounded = fetch_pb2.NodeModelState()
    bounded.CopyFrom(state)
    bound_numbers(bounded)
    if bounded.HasField("artifact"):
        bounded.artifact.source_revision = one_line(state.artifact.source_revision, WORD_CHARACTERS)
    bounded.content_digest = one_line(state.content_digest, WORD_CHARACTERS)
    bounded.path = one_line(state.path, _PATH_CHARACTERS)
    if state.HasField("facts"):
        bound_texts(bounded.facts)
    if state.facts_key:
        _check_facts_key(state)
    bounded.model.CopyFrom(
        model_pb2.ModelRef(
            kind=bounded.model.kind,
            namespace=one_line(state.model.namespace, WORD_CHARACTERS),
            name=one_line(state.model.name, WORD_CHARACTERS),
            uid=state.model.uid,
        )
    )
    del bounded.kept_revisions[_MOST_HELD:]
    for digest in bounded.kept_revisions:
        check_digest(digest)
    del bounded.held[_MOST_HELD:]
    for held in bounded.held:
        check_digest(held.artifact.digest)
        held.path = one_line(held.path, _PATH_CHARACTERS)
        held.artifact.source_revision = one_line(held.artifact.source_revision, WORD_CHARACTERS)
        del held.use.users[_MOST_USERS:]
        for user in held.use.users:
            user.namespace = one_line(user.namespace, WORD_CHARACTERS)
            user.name = one_line(user.name, WORD_CHARACTERS)
    if state.HasField("verification"):
        _bound_verification(bounded.verification)
    for problem in (bounded.problem, bounded.parse_problem):
        # Reading a field of a message does not set it.
        if problem.message:
            problem.message = one_line(problem.message)
    return bounded


def _bound_verification(found: fetch_pb2.Verification) -> None:
    check_digest(found.digest)
    found.request = one_line(found.request, WORD_CHARACTERS)
    found.problem = one_line(found.problem)
    files = [one_line(file, _PATH_CHARACTERS) for file in found.files[:_MOST_FILES]]
    del found.files[:]
    found.files.extend(files)


def bounded_questions(request: fetch_pb2.UseRequest) -> fetch_pb2.UseRequest:
    """Questions about Pods, as many as are answered at once. Raises InvalidValue when there are more."""
    if len(request.questions) > _MOST_QUESTIONS:
        raise _invalid(f"the message asks more than {_MOST_QUESTIONS} questions")
    for question in request.questions:
        check_uid(question.model_uid)
        if len(question.paths) > _MOST_PATHS:
            raise _invalid(f"a question names more than {_MOST_PATHS} paths")
        if any(len(path) > _PATH_CHARACTERS for path in (question.root, *question.paths)):
            raise _invalid(f"a path has more than {_PATH_CHARACTERS} characters")
    bound_numbers(request)
    return request


def bounded_facts(said: fetch_pb2.SharedFacts) -> fetch_pb2.SharedFacts:
    """What a node has found out about an artifact, with texts of bounded length."""
    bounded = fetch_pb2.SharedFacts()
    bounded.CopyFrom(said)
    bound_texts(bounded)
    bound_numbers(bounded)
    return bounded


def _check_facts_key(state: fetch_pb2.NodeModelState) -> None:
    """Facts are those of the artifact that readers see, or of one that is refused as incomplete and has no reader."""
    if state.problem.reason == model_pb2.REASON_INCOMPLETE:
        if not _FACTS_KEY.fullmatch(state.facts_key):
            raise _invalid("the facts are those of no artifact")
        return
    directory = digest_directory(check_digest(state.artifact.digest))
    if not state.facts_key.startswith(f"{directory}."):
        raise _invalid("the facts are those of another artifact")


def bounded_heartbeat(node: str, heartbeat: fetch_pb2.NodeHeartbeat) -> fetch_pb2.NodeHeartbeat:
    """A heartbeat of the node that sends it. Raises InvalidValue when it is of another or says too much."""
    if heartbeat.node != node:
        raise _invalid("the heartbeat is that of another node")
    if len(heartbeat.roots) > _MOST_ROOTS:
        raise _invalid(f"the heartbeat names more than {_MOST_ROOTS} model roots")
    if len(heartbeat.rates) > _MOST_RATES:
        raise _invalid(f"the heartbeat names more than {_MOST_RATES} kinds of sources")
    bounded = fetch_pb2.NodeHeartbeat(
        node=node,
        version=one_line(heartbeat.version, WORD_CHARACTERS),
        pool=one_line(heartbeat.pool, WORD_CHARACTERS),
    )
    bounded.started_at.CopyFrom(heartbeat.started_at)
    if heartbeat.HasField("limits"):
        bounded.limits.bytes_per_second = max(0, heartbeat.limits.bytes_per_second)
        bounded.limits.connections_per_host = max(0, heartbeat.limits.connections_per_host)
    for root in heartbeat.roots:
        bounded.roots.add(
            root=one_line(root.root, _PATH_CHARACTERS),
            total_bytes=root.total_bytes,
            free_bytes=root.free_bytes,
            reserved_bytes=root.reserved_bytes,
            problem=one_line(root.problem),
            high_watermark_percent=_percent(root.high_watermark_percent),
            low_watermark_percent=_percent(root.low_watermark_percent),
        )
    for rate in heartbeat.rates:
        bounded.rates.add(
            scheme=one_line(rate.scheme, WORD_CHARACTERS),
            bytes_per_second=max(0, rate.bytes_per_second),
            age_seconds=max(0, rate.age_seconds),
        )
    bound_numbers(bounded)
    return bounded


def _percent(number: int) -> int:
    return max(0, min(number, 100))


def _invalid(why: str) -> InvalidValue:
    return InvalidValue(Reason.INVALID_PARAMETER, why)

"""What the gateway takes from a node, and which tokens are worth a review."""

import asyncio
import base64
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.msg import Msg

from libs.artifact import names
from libs.artifact.errors import InvalidValue
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller.authorization import why_not_reviewed
from services.controller.gateway.answers import Answers
from services.controller.gateway.checks import (
    bounded_heartbeat,
    bounded_questions,
    bounded_state,
    is_own_inbox,
    read_subject,
)
from services.controller.permissions import gateway_nodes_permissions, node_permissions

USER = "system:serviceaccount:ome:ome-fetcher"
NOW = 1_800_000_000.0
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("subject", "meaning"),
    [
        ("ome.node.node-1.observed", ("node-1", "observed", "")),
        ("ome.node.node-1_example_org.progress.u-1", ("node-1.example.org", "progress", "u-1")),
    ],
)
def test_the_subject_says_who_speaks(subject: str, meaning: tuple[str, str, str]) -> None:
    assert read_subject(subject) == meaning


@pytest.mark.parametrize(
    "subject", ["ome.node", "ome.node..observed", "ome.node.*.observed", "ome.node.>.observed", "ome.other.n.x"]
)
def test_a_subject_without_a_node_says_nothing(subject: str) -> None:
    with pytest.raises(InvalidValue):
        read_subject(subject)


@pytest.mark.parametrize(
    ("reply", "own"),
    [
        ("_INBOX_node-1.abc.1", True),
        ("_INBOX_node-1", False),
        ("_INBOX_node-1.", False),
        ("_INBOX_node-1..x", False),
        ("_INBOX_node-1.>", False),
        ("_INBOX_node-1.*", False),
        ("_INBOX_node-10.x", False),
        ("_INBOX_node-2.x", False),
        ("ome.node.node-2.observed", False),
        ("$JS.API.STREAM.DELETE.KV_ome-desired", False),
        ("", False),
    ],
)
def test_an_answer_goes_to_the_inbox_of_the_node_that_asks_and_nowhere_else(reply: str, own: bool) -> None:
    assert is_own_inbox("node-1", reply) is own


def test_texts_of_a_state_are_bounded_and_its_facts_are_those_of_its_artifact() -> None:
    state = fetch_pb2.NodeModelState(
        model=model_pb2.ModelRef(uid="u", name="n" * 9999),
        artifact=model_pb2.Artifact(digest=DIGEST),
        problem=fetch_pb2.Problem(message="m" * 99_999),
        path="/" * 99_999,
        facts_key=names.facts_key(DIGEST, "", "1"),
    )
    bounded = bounded_state(state)
    assert (len(bounded.problem.message), len(bounded.path), len(bounded.model.name)) == (1024, 4096, 253)
    assert not bounded.HasField("parse_problem")
    state.facts_key = names.facts_key("sha256:" + "b" * 64, "", "1")
    with pytest.raises(InvalidValue):
        bounded_state(state)


def test_facts_of_an_artifact_that_is_incomplete_may_be_of_another_than_readers_see() -> None:
    key = names.facts_key("sha256:" + "b" * 64, "", "1")
    state = fetch_pb2.NodeModelState(model=model_pb2.ModelRef(uid="u"), facts_key=key)
    with pytest.raises(InvalidValue):
        bounded_state(state)
    state.problem.reason = model_pb2.REASON_INCOMPLETE
    assert bounded_state(state).facts_key == key
    state.facts_key = "any key"
    with pytest.raises(InvalidValue):
        bounded_state(state)


@pytest.mark.parametrize("uid", ["", "a.b", "*", ">", "a b", "a" * 200])
def test_a_state_of_no_model_is_refused(uid: str) -> None:
    with pytest.raises(InvalidValue):
        bounded_state(fetch_pb2.NodeModelState(model=model_pb2.ModelRef(uid=uid)))


def test_a_node_asks_of_pods_no_more_than_a_fetcher_does() -> None:
    question = fetch_pb2.UseQuestion(model_uid="u-1", root="/models", paths=["/models/a", "/models/.ome/artifacts/b"])
    asked = fetch_pb2.UseRequest(questions=[question] * 256)
    assert bounded_questions(asked) == asked
    for too_much in (
        fetch_pb2.UseRequest(questions=[question] * 257),
        fetch_pb2.UseRequest(questions=[fetch_pb2.UseQuestion(model_uid="u-1", paths=["/models/a"] * 5)]),
        fetch_pb2.UseRequest(questions=[fetch_pb2.UseQuestion(model_uid="u-1", paths=["/" + "a" * 5000])]),
    ):
        with pytest.raises(InvalidValue):
            bounded_questions(too_much)


class Controller:
    """A connection on which a controller answers, after others had their turns."""

    def __init__(self) -> None:
        self.busy: Counter[str] = Counter()
        self.most = 0

    async def request(self, subject: str, data: bytes, timeout: float) -> Msg:
        """An answer without content."""
        self.busy[subject] += 1
        self.most = max(self.most, self.busy[subject])
        for _ in range(3):
            await asyncio.sleep(0)
        self.busy[subject] -= 1
        return Msg(None, data=b"")  # type: ignore[arg-type]


async def test_a_node_has_one_message_about_pods_with_the_controller_at_a_time() -> None:
    controller = Controller()
    answers = Answers(controller, None, None, None)  # type: ignore[arg-type]
    await asyncio.gather(*(answers.use(node, fetch_pb2.UseRequest(), "") for node in ("a", "b") * 8))
    assert controller.most == 1
    assert controller.busy.keys() == {"ome.use.a", "ome.use.b"}


def test_a_heartbeat_is_that_of_its_sender() -> None:
    heartbeat = fetch_pb2.NodeHeartbeat(node="node-1", version="v" * 999)
    heartbeat.roots.add(root="/models", problem="p" * 9999, reserved_bytes=7)
    bounded = bounded_heartbeat("node-1", heartbeat)
    assert len(bounded.version) == 253
    assert (bounded.roots[0].root, len(bounded.roots[0].problem)) == ("/models", 1024)
    assert bounded.roots[0].reserved_bytes == 7
    assert not bounded.HasField("limits")
    heartbeat.limits.bytes_per_second, heartbeat.limits.connections_per_host = 7, -7
    limits = bounded_heartbeat("node-1", heartbeat).limits
    assert (limits.bytes_per_second, limits.connections_per_host) == (7, 0)
    with pytest.raises(InvalidValue):
        bounded_heartbeat("node-2", heartbeat)


def test_a_heartbeat_tells_rates_within_bounds() -> None:
    heartbeat = fetch_pb2.NodeHeartbeat(node="node-1")
    heartbeat.rates.add(scheme="s" * 999, bytes_per_second=7, age_seconds=-1)
    [rate] = bounded_heartbeat("node-1", heartbeat).rates
    assert (len(rate.scheme), rate.bytes_per_second, rate.age_seconds) == (253, 7, 0)
    for _ in range(32):
        heartbeat.rates.add(scheme="hf")
    with pytest.raises(InvalidValue, match="kinds of sources"):
        bounded_heartbeat("node-1", heartbeat)


def token(**changes: Any) -> str:
    claims: dict[str, Any] = {
        "aud": ["nats"],
        "exp": NOW + 60,
        "sub": USER,
        "kubernetes.io": {"pod": {"name": "p", "uid": "u"}, "node": {"name": "node-1"}},
    }
    payload = json.dumps({**claims, **changes}).encode()
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b"{}", payload, b"signature"))


def test_a_token_that_may_be_one_of_ours_is_worth_a_review() -> None:
    assert why_not_reviewed(token(), USER, NOW) == ""


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "x.y.z",
        "nonsense",
        "a" * 100_000,
        f"x.{base64.urlsafe_b64encode(b'[' * 9_000).decode()}.y",
        token(aud=["https://kubernetes.default.svc"]),
        token(exp=NOW - 3600),
        token(exp="soon"),
        token(sub="system:serviceaccount:ome:ome-parser"),
        token(**{"kubernetes.io": {"namespace": "ome"}}),
        token(**{"kubernetes.io": None}),
    ],
)
def test_junk_costs_no_review(shown: str) -> None:
    assert why_not_reviewed(shown, USER, NOW)


@given(st.text() | st.binary().map(lambda data: f"a.{base64.urlsafe_b64encode(data).decode()}.b"))
def test_whatever_is_shown_ends_in_an_answer(shown: str) -> None:
    assert isinstance(why_not_reviewed(shown, USER, NOW), str)


def test_what_a_node_may_publish_names_the_node_and_the_gateway_may_publish_none_of_it() -> None:
    permissions = node_permissions("node-1")
    assert all(subject.startswith("ome.node.node-1.") for subject in permissions.publish)
    denied = gateway_nodes_permissions().deny_publish
    assert {subject.replace("node-1", "*") for subject in permissions.publish} <= set(denied)


def test_the_revisions_that_a_node_keeps_are_few_digests() -> None:
    state = fetch_pb2.NodeModelState(model=model_pb2.ModelRef(uid="u-1"), kept_revisions=[DIGEST] * 99)
    assert [*bounded_state(state).kept_revisions] == [DIGEST] * 8
    state.kept_revisions[0] = "anything"
    with pytest.raises(InvalidValue):
        bounded_state(state)


def test_what_a_node_has_found_is_bounded_and_of_an_artifact() -> None:
    state = fetch_pb2.NodeModelState(model=model_pb2.ModelRef(uid="u-1"))
    state.verification.CopyFrom(
        fetch_pb2.Verification(
            request="r" * 9000, digest=DIGEST, damaged=-1, bytes=-1, files=["f" * 9000] * 99, problem="p" * 9000
        )
    )
    found = bounded_state(state).verification
    assert (found.damaged, found.bytes, len(found.files)) == (0, 0, 3)
    assert max(map(len, (found.request, found.problem, *found.files))) <= 4096
    state.verification.digest = "sha256:x"
    with pytest.raises(InvalidValue):
        bounded_state(state)

"""A replica of the controller that knows nothing just now ends no listing, refuses nobody for good, and waits."""

from types import SimpleNamespace
from typing import Any

import pytest

from libs.artifact import names
from libs.artifact.names import LISTING_CREDENTIALS_SUBJECT, LISTING_WANTED_SUBJECT
from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.chassis.health import Health
from ome.fetch.v1.fetch_pb2 import (
    CredentialsReply,
    CredentialsRequest,
    ListingQuery,
    ListingReply,
    UseQuestion,
    UseReply,
    UseRequest,
)
from ome.model.v1.model_pb2 import REASON_FORBIDDEN, REASON_UNAVAILABLE, ModelRef
from services.controller.askings import AskingsServer
from services.controller.credentials import CredentialsServer
from services.controller.pod_watch import PodWatch
from services.controller.streams import make_streams


class Bus:
    """Has what is asked answered by whoever has subscribed to it."""

    def __init__(self) -> None:
        self._servers: dict[str, Any] = {}

    async def subscribe(self, subject: str, queue: str, cb: Any) -> None:
        self._servers[subject] = cb

    async def ask(self, subject: str, data: bytes, subscription: str = "") -> bytes:
        answers: list[bytes] = []

        async def respond(answer: bytes) -> None:
            answers.append(answer)

        await self._servers[subscription or subject](SimpleNamespace(subject=subject, data=data, respond=respond))
        return answers[0]


@pytest.mark.parametrize(
    ("current", "wanted", "withdrawn"),
    [(True, True, False), (True, False, True), (False, False, False), (False, True, False)],
)
async def test_a_listing_is_withdrawn_only_by_who_hears_of_models(current: bool, wanted: bool, withdrawn: bool) -> None:
    bus = Bus()
    await AskingsServer(lambda uid, key: wanted, lambda: current).serve(bus)  # type: ignore[arg-type]

    answer = await bus.ask(LISTING_WANTED_SUBJECT, ListingQuery(model_uid="u", source_key="u.s").SerializeToString())

    assert ListingReply.FromString(answer).withdrawn is withdrawn


@pytest.mark.parametrize(("current", "reason"), [(True, REASON_FORBIDDEN), (False, REASON_UNAVAILABLE)])
async def test_credentials_of_an_unknown_model(current: bool, reason: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> tuple[int, None]:
        return 0, None

    monkeypatch.setattr("services.controller.credentials.read_key", nothing)
    bus = Bus()
    server = CredentialsServer(None, None, lambda *_: None, lambda _: None, lambda _: None, lambda: current)  # type: ignore[arg-type]
    await server.serve(bus)  # type: ignore[arg-type]
    request = CredentialsRequest(model_uid="0a1b2c3d-0000-4000-8000-000000000000").SerializeToString()

    of_node = await bus.ask(names.credentials_subject("node-1"), request, names.credentials_subject("*"))
    of_listing = await bus.ask(LISTING_CREDENTIALS_SUBJECT, request)

    assert [CredentialsReply.FromString(each).problem.reason for each in (of_node, of_listing)] == [reason] * 2


@pytest.mark.parametrize(
    ("current", "known", "answers"),
    [(True, True, True), (True, False, True), (False, True, True), (False, False, False)],
)
async def test_nobody_says_that_a_model_is_not_used_that_it_has_not_heard_of(
    current: bool, known: bool, answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PodWatch, "_refuse_while_behind", lambda watch: None)
    ref = ModelRef(name="a", uid="u") if known else None
    bus = Bus()
    watch = PodWatch("ome", True, lambda uid: None, Health())
    await watch.serve(bus, lambda uid: ref, lambda node, uid: False, lambda: current)  # type: ignore[arg-type]
    request = UseRequest(questions=[UseQuestion(model_uid="u", root="/models", paths=["/models/a"])])

    answer = await bus.ask(names.use_subject("node-1"), request.SerializeToString(), names.use_subject("*"))

    reply = UseReply.FromString(answer)
    assert (len(reply.uses), reply.problem.reason) == ((1, 0) if answers else (0, REASON_UNAVAILABLE))


async def test_a_controller_waits_for_a_server_that_has_no_streams_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.controller.streams._RETRY_SECONDS", 0.01)
    health, refusals = Health(), iter(["JetStream is away", "JetStream is away", None])
    seen: list[dict[str, str]] = []

    async def ensure() -> None:
        seen.append(dict(health.failures))
        if why := next(refusals):
            raise Unavailable(Reason.UNAVAILABLE, why)

    await make_streams(ensure, health)

    assert [list(each.values()) for each in seen] == [["not ensured yet"], ["JetStream is away"], ["JetStream is away"]]
    assert health.ready

"""The only way from the nodes' account of NATS into the fleet's: takes a node's message, has it judged, answers it.

The server lets a node publish on its own subjects only, so the subject says who asks. It does not look at where an
answer is to go: this does. Nothing of a message but its checked content goes on, and no header.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import nats.errors
import prometheus_client
import structlog
from google.protobuf.message import DecodeError, Message
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.artifact import names
from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.chassis.errors import ServiceError
from libs.model.problems import problem_of
from services.controller.gateway.checks import is_own_inbox, read_subject

# Replicas share the work.
_QUEUE = "ome-gateway"
# A fetcher looks at 32 models at a time; whoever asks for more at once is not answered, and asks again.
_MOST_PER_NODE = 64
_FLUSH_SECONDS = 5
_requests = prometheus_client.Counter(
    "ome_gateway_requests", "Messages of nodes, by what they ask and what became of them.", ["verb", "result"]
)
_log = structlog.get_logger()

# Gets the node, its message, and the last token of the subject where there is one.
Answer = Callable[[str, Any, str], Awaitable[Message | None]]


class Door:
    """Subscriptions in the account of the nodes."""

    def __init__(self, nodes: Client) -> None:
        self._nodes = nodes
        self._busy: Counter[str] = Counter()
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Work until cancelled; what is under way then ends unanswered, and is asked again."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await asyncio.Event().wait()
            finally:
                # A group that ends takes no more tasks, and messages may come until the connection is closed.
                self._group = None

    async def open(
        self, verb: str, request: type[Message], reply: type[Message] | None, answer: Answer, most_bytes: int
    ) -> None:
        """Answer a verb from now on. Refusals are told in the field `problem` of reply, if there is a reply."""
        subject = names.node_subject("*", verb, "*" if verb == names.PROGRESS else "")

        async def take(message: Msg) -> None:
            self._take(message, request, reply, answer, most_bytes)

        await self._nodes.subscribe(subject, queue=_QUEUE, cb=take)

    async def opened(self) -> None:
        """Wait until the server knows of all verbs, unless it is away: it hears of them when it is back."""
        with contextlib.suppress(nats.errors.Error):
            await self._nodes.flush(_FLUSH_SECONDS)

    def _take(
        self, message: Msg, request: type[Message], reply: type[Message] | None, answer: Answer, most_bytes: int
    ) -> None:
        try:
            node, verb, rest = read_subject(message.subject)
        except InvalidValue:
            _requests.labels(verb="unknown", result="Dropped").inc()
            return
        answerable = is_own_inbox(node, message.reply) if reply else not message.reply
        if not answerable or len(message.data) > most_bytes or self._busy[node] >= _MOST_PER_NODE or not self._group:
            # Whoever sends such a message is either no fetcher or does not wait for this answer alone.
            _requests.labels(verb=verb, result="Dropped").inc()
            _log.debug("request_dropped", node=node, verb=verb, bytes=len(message.data))
            return
        self._busy[node] += 1
        self._group.create_task(self._work(node, verb, rest, message, request, reply, answer))

    async def _work(
        self,
        node: str,
        verb: str,
        rest: str,
        message: Msg,
        request: type[Message],
        reply: type[Message] | None,
        answer: Answer,
    ) -> None:
        told: Message | None
        result = "Ok"
        try:
            told = await answer(node, request.FromString(message.data), rest)
        except DecodeError:
            unreadable = InvalidValue(Reason.INVALID_PARAMETER, "the message cannot be read")
            told, result = _refused(reply, unreadable), "Malformed"
        except (InvalidValue, ServiceError) as error:
            told, result = _refused(reply, error), error.reason
        except Exception as error:  # The work item's boundary: no message of a node may end the process.
            _log.error("request_crashed", node=node, verb=verb, exc_info=error)
            told, result = _refused(reply, error), "Internal"
        finally:
            self._busy[node] -= 1
            if not self._busy[node]:
                del self._busy[node]
        _requests.labels(verb=verb, result=result).inc()
        if reply and told is not None:
            try:
                await self._nodes.publish(message.reply, told.SerializeToString())
            except nats.errors.Error as error:
                # As while the server is away and more is kept for it than may be: whoever asked asks again.
                _log.warning("answer_lost", node=node, verb=verb, error=type(error).__name__)


def _refused(reply: type[Message] | None, error: Exception) -> Message | None:
    return reply(problem=problem_of(error, "gateway")) if reply else None

"""Reads a model's copy at once because somebody has asked for it, each request once, and says what was found.

Owns what was found since the process began; the node's stored state has what was found before. Must not repair
anything: what is damaged is noted, and the models that hold it are looked at.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import structlog

from libs.artifact.wording import one_line
from libs.chassis.errors import ServiceError
from ome.fetch.v1.fetch_pb2 import GOAL_HOLD, Assignment, NodeModelState, Verification
from ome.model.v1.model_pb2 import NODE_PHASE_READY
from services.fetcher.model.reading_turns import ReadingTurns, Wish
from services.fetcher.model.roots import Roots
from services.fetcher.model.scrubbing import read_artifact
from services.fetcher.stop import StopFlag, Stopped

# Damaged files that are told by name.
_MOST_FILES = 3
_log = structlog.get_logger()


class Verifier:
    """Answers requests one after another, each as fast as the disk reads: somebody waits."""

    def __init__(self, roots: Roots, on_damage: Callable[[str], None], changed: Callable[[str], None]) -> None:
        """on_damage gets the digest of a damaged copy, changed the uid of a model of which something is known."""
        self._roots = roots
        self._on_damage = on_damage
        self._changed = changed
        self._turns = ReadingTurns()
        # Uid and request that are being answered.
        self._reading: tuple[str, str] | None = None
        self._asked = asyncio.Event()
        self._found: dict[str, Verification] = {}

    def heed(
        self, model_uid: str, assignment: Assignment, root: str, state: NodeModelState, stored: NodeModelState | None
    ) -> Verification | None:
        """What was found last for a model; begins what the assignment asks for if that was not done yet.

        state is how the model stands now, in that root; stored what the node has said of it before.
        """
        known = self._found.get(model_uid)
        if known is None and stored is not None and stored.HasField("verification"):
            known = stored.verification
        asked = assignment.verify if assignment.goal == GOAL_HOLD else ""
        readable = state.phase == NODE_PHASE_READY and not state.update and state.artifact.digest
        done = (known is not None and known.request == asked) or self._reading == (model_uid, asked)
        if asked and readable and not done:
            self._turns.ask(model_uid, Wish(asked, assignment.model.namespace, root, state.artifact.digest))
            self._asked.set()
        else:
            self._turns.withdraw(model_uid)
        return known

    def forget(self, model_uid: str) -> None:
        """The node has nothing to do with a model any more."""
        self._turns.withdraw(model_uid)
        self._found.pop(model_uid, None)
        if self._reading and self._reading[0] == model_uid:
            self._reading = None

    async def run(self) -> None:
        """Answer requests until cancelled."""
        stop = StopFlag()
        with ThreadPoolExecutor(1, thread_name_prefix="verify") as executor:
            try:
                while True:
                    self._asked.clear()
                    if next_one := self._turns.take(time.monotonic()):
                        model_uid, wish = next_one
                        began = time.monotonic()
                        await self._answer(model_uid, wish, executor, stop)
                        self._turns.ended(wish, began, time.monotonic())
                        continue
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._asked.wait(), self._turns.seconds_to_rest(time.monotonic()))
            finally:
                # The thread looks at the flag once per buffer, so leaving the executor does not take long.
                stop.set()

    async def _answer(self, model_uid: str, wish: Wish, executor: ThreadPoolExecutor, stop: StopFlag) -> None:
        request, root, digest = wish.request, wish.root, wish.digest
        found = Verification(request=request, digest=digest)
        self._reading = model_uid, request
        try:
            reading = await read_artifact(self._roots, executor, stop, root, digest, None)
        except Stopped:
            return
        except (ServiceError, OSError) as error:
            # Let go of meanwhile, or unreadable, which the model's own loop reports.
            found.problem = one_line(error.message if isinstance(error, ServiceError) else str(error))
            self._on_damage(digest)
        else:
            found.bytes, found.damaged = reading.bytes, len(reading.damaged)
            found.files.extend(reading.damaged[:_MOST_FILES])
            if reading.damaged:
                self._on_damage(digest)
        found.finished_at.FromDatetime(datetime.now(UTC))
        _log.info("artifact_verified", model=model_uid, root=root, digest=digest, damaged=found.damaged)
        # Unless the model has gone while it was read.
        if self._reading:
            self._reading = None
            self._found[model_uid] = found
            self._changed(model_uid)

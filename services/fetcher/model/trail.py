"""Tells what the node does of a model, as parts of the trace of its revision on this node. Decides nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from libs.artifact.names import trace_key
from libs.chassis.errors import ServiceError
from libs.chassis.traces import Attributes, Traces
from services.fetcher.model.downloads import Fetch, Order
from services.fetcher.stop import StopFlag, Stopped
from services.fetcher.transfer.progress import Progress


class Trail:
    """What is done for models on one node, told as it ends."""

    def __init__(self, traces: Traces, node: str, clock: Callable[[], float]) -> None:
        """clock tells seconds since the epoch."""
        self._traces = traces
        self._node = node
        self._clock = clock

    def received(self, model_uid: str, digest: str, revision: int, since: float) -> None:
        """An assignment was read at a time of the clock, and now its transfer is ordered."""
        self._tell("fetcher.receive", model_uid, digest, since, self._clock(), {"ome.assignment.revision": revision})

    @contextmanager
    def part(self, name: str, model_uid: str, digest: str) -> Iterator[None]:
        """Tell what happens inside, and how it fails if it does. Nothing is told of a model without known files."""
        started, failed = self._clock(), "it was given up"
        try:
            yield
            failed = ""
        except ServiceError as error:
            failed = f"{error.reason}: {error.message}"
            raise
        finally:
            if digest:
                self._tell(name, model_uid, digest, started, self._clock(), {}, failed)

    def followed(self, fetch: Fetch) -> Fetch:
        """The same transfers, told of: how long bytes came, and how long they were checked and made durable then.

        Of models that wait for one transfer, the one that ordered it has it in its trace.
        """

        async def fetching(order: Order, stop: StopFlag, note: Callable[[Progress], None]) -> None:
            started, arrived, failed = self._clock(), 0.0, "it was given up"

            def noted(progress: Progress) -> None:
                """Called by the transfer's thread."""
                nonlocal arrived
                if progress.bytes_done >= progress.bytes_total:
                    arrived = arrived or self._clock()
                note(progress)

            try:
                await fetch(order, stop, noted)
                failed = ""
            except Stopped:
                failed = "it was stopped"
                raise
            except ServiceError as error:
                failed = f"{error.reason}: {error.message}"
                raise
            finally:
                ended = self._clock()
                arrived = arrived or ended
                about: Attributes = {"ome.bytes": order.bytes_total, "ome.scheme": order.uri.partition("://")[0]}
                uid, digest = order.model_uid, order.digest
                self._tell("fetcher.transfer", uid, digest, started, arrived, about, failed)
                if not failed:
                    self._tell("fetcher.verify", uid, digest, arrived, ended, {})

        return fetching

    def _tell(
        self, name: str, uid: str, digest: str, started: float, ended: float, about: Attributes, failed: str = ""
    ) -> None:
        said = {"ome.model.uid": uid, "ome.node": self._node, **about}
        self._traces.part(trace_key(uid, digest, self._node), name, started, ended, said, failed)

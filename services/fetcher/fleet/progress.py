"""Publishes how far the running transfers are, at most once a second each. Lost messages are replaced by the next."""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from libs.artifact.names import PROGRESS
from libs.artifact.wording import shown_path
from libs.chassis.errors import ServiceError
from ome.fetch.v1 import fetch_pb2
from services.fetcher.fleet.gateway import Gateway
from services.fetcher.transfer.progress import Progress

_INTERVAL_SECONDS = 1.0
_log = structlog.get_logger()


async def publish_progress(
    gateway: Gateway, running_transfers: Callable[[], Iterable[tuple[frozenset[str], Progress]]]
) -> None:
    """Publish until cancelled. Each running transfer comes with the uids of the models that it is for."""
    said: dict[str, Progress] = {}
    while True:
        # The timer costs nothing while no transfer runs, and needs no agreement with the threads that transfer.
        await asyncio.sleep(_INTERVAL_SECONDS)
        running = {uid: progress for models, progress in running_transfers() for uid in models}
        for model_uid, progress in running.items():
            if said.get(model_uid) == progress:
                continue
            try:
                await gateway.tell(PROGRESS, _encode(progress), model_uid)
            except ServiceError as error:
                _log.debug("progress_lost", model=model_uid, reason=error.reason)
        said = running


def _encode(progress: Progress) -> fetch_pb2.Progress:
    return fetch_pb2.Progress(
        bytes_done=progress.bytes_done,
        bytes_total=progress.bytes_total,
        files_done=progress.files_done,
        files_total=progress.files_total,
        bytes_per_second=progress.bytes_per_second,
        eta_seconds=progress.eta_seconds,
        files=[
            fetch_pb2.FileProgress(
                path=shown_path(file.path),
                bytes_done=file.bytes_done,
                bytes_total=file.bytes_total,
                bytes_per_second=file.bytes_per_second,
                eta_seconds=file.eta_seconds,
            )
            for file in progress.files
        ],
    )

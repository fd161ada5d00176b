"""Answers the status service which files an artifact has: the largest of them, and how many there are in all.

Reads manifests and writes nothing. Who may see the files of a model, the status service has made sure of; of artifacts
that no model names any more, nothing is told.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import nats.errors
import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from libs.artifact import names
from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import Manifest
from libs.artifact.reasons import Reason
from libs.artifact.wording import shown_path
from libs.chassis.errors import Missing, ServiceError, Unavailable
from libs.chassis.nats_answering import answer_each
from libs.model.manifest_codec import algorithm_number
from libs.model.problems import problem_of
from ome.fetch.v1 import fetch_pb2
from services.controller.manifests import read_manifest

_QUEUE = "ome-file-lists"
# A browser lays out so many rows at once, and they fit into one message.
_MOST_FILES = 200
_PATH_CHARACTERS, _CHECKSUM_CHARACTERS = 250, 128
# One replica of the status service asks four at a time.
_MOST_WAITING = 32
_MANIFEST_SECONDS = 10.0
# Reading lists may take this part of the time, which planning needs as well; after one that took long because the store
# is slow, the next does not wait for longer than that.
_READING_SHARE, _LONGEST_PAUSE_SECONDS = 0.25, 2.0
# Answers, of 40 kB at most: many look at few models at a time.
_REMEMBERED = 64
_log = structlog.get_logger()


class FileListServer:
    """Answers from what is stored; replicas share the work. One manifest is read at a time: it may be large."""

    def __init__(self, client: Client, js: JetStreamContext, is_named: Callable[[str], bool]) -> None:
        """is_named says whether a model names an artifact."""
        self._client = client
        self._js = js
        self._is_named = is_named
        self._waiting = 0
        self._reading = asyncio.Lock()
        self._known: OrderedDict[str, fetch_pb2.FilesReply] = OrderedDict()

    async def run(self) -> None:
        """Answer until cancelled."""
        await answer_each(self._client, names.FILES_SUBJECT, _QUEUE, self._answer)

    async def _answer(self, message: Msg) -> None:
        self._waiting += 1
        try:
            if self._waiting > _MOST_WAITING:
                raise Unavailable(Reason.OVERLOADED, "too many lists of files are read at this time: ask again later")
            reply = await self._files(fetch_pb2.FilesRequest.FromString(message.data).digest)
        except (DecodeError, InvalidValue, ServiceError) as error:
            reply = fetch_pb2.FilesReply(problem=problem_of(error, "controller"))
        finally:
            self._waiting -= 1
        try:
            await message.respond(reply.SerializeToString())
        except nats.errors.Error as error:
            _log.warning("files_unanswered", error=f"{type(error).__name__}: {error}")

    async def _files(self, digest: str) -> fetch_pb2.FilesReply:
        if not self._is_named(digest):
            raise Missing(Reason.NOT_FOUND, "no model names this artifact")
        if digest not in self._known:
            await self._read(digest)
        self._known.move_to_end(digest)
        return self._known[digest]

    async def _read(self, digest: str) -> None:
        await self._reading.acquire()
        started = time.monotonic()
        try:
            if digest not in self._known:
                self._known[digest] = files_reply((await read_manifest(self._js, digest, _MANIFEST_SECONDS))[1])
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        finally:
            # The next one waits, and not this one.
            pause = (time.monotonic() - started) * (1 / _READING_SHARE - 1)
            asyncio.get_running_loop().call_later(min(pause, _LONGEST_PAUSE_SECONDS), self._reading.release)


def files_reply(manifest: Manifest) -> fetch_pb2.FilesReply:
    """The largest files of a manifest, with names that fit a line."""
    largest = sorted(manifest.files, key=lambda file: (-file.size_bytes, file.path))[:_MOST_FILES]
    return fetch_pb2.FilesReply(
        total=len(manifest.files),
        files=(
            fetch_pb2.ManifestFile(
                path=shown_path(file.path, _PATH_CHARACTERS),
                size_bytes=file.size_bytes,
                checksum=fetch_pb2.Checksum(
                    algorithm=algorithm_number(file.algorithm), value=file.checksum[:_CHECKSUM_CHARACTERS]
                ),
            )
            for file in largest
        ),
    )

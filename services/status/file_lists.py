"""Asks the controller which files the artifact of a model has, and remembers the answers: an artifact never changes.

Who may see them is the asker's matter: whoever may get the model.
"""

import asyncio

from nats.aio.client import Client

from libs.artifact.names import FILES_SUBJECT
from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.chassis.nats_asking import ask
from libs.model.problems import error_of
from ome.fetch.v1.fetch_pb2 import FilesReply, FilesRequest
from services.status.allowances import Remembered

# A controller reads for 10 seconds at most, and others may be before us.
_SECONDS = 15.0
# A list of files may have megabytes, so nobody reads it twice while one of them is at it as usual.
_AGAIN_SECONDS = 5.0
_AT_A_TIME = 4
# Of 40 kB at most.
_REMEMBERED, _REMEMBERED_SECONDS = 64, 3600.0


class FileLists:
    """The largest files of artifacts, by digest."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._asking = asyncio.Semaphore(_AT_A_TIME)
        self._known: Remembered[str, FilesReply] = Remembered(_REMEMBERED)

    def connected(self, client: Client) -> None:
        """Ask by this connection from now on."""
        self._client = client

    async def files(self, digest: str) -> FilesReply:
        """The largest files of an artifact, and how many there are. Raises Missing or Unavailable."""
        now = asyncio.get_running_loop().time()
        if known := self._known.get(digest, now):
            return known
        async with self._asking:
            found = self._known.get(digest, now) or await self._ask(digest)
        self._known.put(digest, found, now + _REMEMBERED_SECONDS)
        return found

    async def _ask(self, digest: str) -> FilesReply:
        if self._client is None:
            raise Unavailable(Reason.UNAVAILABLE, "the service is not connected yet", retry_after_seconds=1)
        request = FilesRequest(digest=digest)
        reply = await ask(self._client, FILES_SUBJECT, request, FilesReply, _SECONDS, _AGAIN_SECONDS)
        if reply.HasField("problem"):
            raise error_of(reply.problem)
        return reply

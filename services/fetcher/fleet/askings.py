"""Asks the controller whether a listing is still wanted. Nothing is ended because nobody answers."""

from nats.aio.client import Client

from libs.artifact.names import LISTING_WANTED_SUBJECT
from libs.chassis.errors import Unavailable
from libs.chassis.nats_asking import ask
from ome.fetch.v1.fetch_pb2 import ListingQuery, ListingReply, ResolveTask

_TIMEOUT_SECONDS = 5


class Askings:
    """The listings that the controller waits for."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def withdrawn(self, task: ResolveTask) -> bool:
        """Whether the controller says that nobody waits for a listing any more."""
        query = ListingQuery(model_uid=task.model.uid, source_key=task.source_key)
        try:
            return (await ask(self._client, LISTING_WANTED_SUBJECT, query, ListingReply, _TIMEOUT_SECONDS)).withdrawn
        except Unavailable:
            return False

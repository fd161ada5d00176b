"""Answers resolvers whether a listing that takes long is still wanted: nobody lists for a model that has gone."""

from collections.abc import Callable

from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.artifact import names
from ome.fetch.v1 import fetch_pb2

_QUEUE = "ome-askings"


class AskingsServer:
    """Answers from what the controller knows; replicas share the work."""

    def __init__(self, is_wanted: Callable[[str, str], bool], is_current: Callable[[], bool]) -> None:
        """is_wanted gets a model uid and the key of a source; is_current says whether this replica hears of models.

        One that does not hear of them just now ends nothing: the model may be new.
        """
        self._is_wanted = is_wanted
        self._is_current = is_current

    async def serve(self, client: Client) -> None:
        """Answer from now on."""
        await client.subscribe(names.LISTING_WANTED_SUBJECT, queue=_QUEUE, cb=self._answer)

    async def _answer(self, message: Msg) -> None:
        try:
            query = fetch_pb2.ListingQuery.FromString(message.data)
        except DecodeError:
            return
        withdrawn = self._is_current() and not self._is_wanted(query.model_uid, query.source_key)
        await message.respond(fetch_pb2.ListingReply(withdrawn=withdrawn).SerializeToString())

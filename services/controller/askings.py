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

    def __init__(self, is_wanted: Callable[[str, str], bool], hears_of_models: Callable[[], bool]) -> None:
        """is_wanted gets a model uid and the key of a source; hears_of_models says whether this replica just now does.

        One that does not ends nothing: the model may be new.
        """
        self._is_wanted = is_wanted
        self._hears_of_models = hears_of_models

    async def serve(self, client: Client) -> None:
        """Answer from now on."""
        await client.subscribe(names.LISTING_WANTED_SUBJECT, queue=_QUEUE, cb=self._answer)

    async def _answer(self, message: Msg) -> None:
        try:
            query = fetch_pb2.ListingQuery.FromString(message.data)
        except DecodeError:
            return
        withdrawn = self._hears_of_models() and not self._is_wanted(query.model_uid, query.source_key)
        await message.respond(fetch_pb2.ListingReply(withdrawn=withdrawn).SerializeToString())

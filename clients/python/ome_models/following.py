"""What a watch says across lost streams: each change once, with deletions that happened meanwhile. Pure."""

from dataclasses import dataclass

from ome.model.v1.model_pb2 import ModelRef
from ome.status.v1.status_pb2 import Model, WatchModelsRequest, WatchModelsResponse

# Pauses between two attempts to go on, in seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


@dataclass(frozen=True)
class Change:
    """A model that is new or has changed, or with model None one that is gone."""

    ref: ModelRef
    model: Model | None


class Following:
    """Makes changes from the events of one stream after the other."""

    def __init__(self, request: WatchModelsRequest) -> None:
        self._request = request
        self._token = ""
        self._known: dict[str, ModelRef] = {}
        self._seen: set[str] = set()
        self._pause = _FIRST_PAUSE

    def request(self) -> WatchModelsRequest:
        """What the next stream is asked for."""
        self._seen = set()
        request = WatchModelsRequest()
        request.CopyFrom(self._request)
        request.resume_token = self._token
        return request

    def pause_seconds(self) -> float:
        """How long to wait before the next stream. Grows until something has been received."""
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        return pause

    def changes(self, event: WatchModelsResponse) -> list[Change]:
        """The changes that an event tells of."""
        self._pause = _FIRST_PAUSE
        self._token = event.resume_token or self._token
        match event.WhichOneof("event"):
            case "updated":
                self._known[event.updated.ref.uid] = event.updated.ref
                self._seen.add(event.updated.ref.uid)
                return [Change(event.updated.ref, event.updated)]
            case "deleted":
                self._known.pop(event.deleted.uid, None)
                return [Change(event.deleted, None)]
            case "synced" if not event.synced.resumed:
                gone = [ref for uid, ref in self._known.items() if uid not in self._seen]
                self._known = {uid: ref for uid, ref in self._known.items() if uid in self._seen}
                return [Change(ref, None) for ref in gone]
        return []

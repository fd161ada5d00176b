"""A watch of the client across lost streams: no change is lost, no deletion either."""

from ome.model.v1.model_pb2 import ModelRef
from ome.status.v1.status_pb2 import Model, Synced, WatchModelsRequest, WatchModelsResponse
from ome_models.following import Following


def updated(name: str, token: str = "") -> WatchModelsResponse:
    return WatchModelsResponse(updated=Model(ref=ModelRef(name=name, uid=name)), resume_token=token)


def deleted(name: str) -> WatchModelsResponse:
    return WatchModelsResponse(deleted=ModelRef(name=name, uid=name), resume_token="t9")


def synced(resumed: bool, token: str = "t") -> WatchModelsResponse:
    return WatchModelsResponse(synced=Synced(resumed=resumed), resume_token=token)


def told(following: Following, *events: WatchModelsResponse) -> list[tuple[str, bool]]:
    """Names, and whether they are there."""
    return [(change.ref.name, change.model is not None) for event in events for change in following.changes(event)]


def test_each_event_is_a_change_and_markers_are_none() -> None:
    following = Following(WatchModelsRequest(name="x"))
    assert following.request() == WatchModelsRequest(name="x")
    assert told(following, updated("a"), synced(False), updated("a", "t2"), deleted("a")) == [
        ("a", True),
        ("a", True),
        ("a", False),
    ]
    assert following.request().resume_token == "t9"


def test_what_went_while_the_stream_was_lost_is_told_when_everything_comes_again() -> None:
    following = Following(WatchModelsRequest())
    following.request()
    told(following, updated("a"), updated("b"), synced(False))
    following.request()
    assert told(following, updated("b"), updated("c"), synced(False)) == [("b", True), ("c", True), ("a", False)]
    following.request()
    assert told(following, synced(True)) == [], "what a resumed watch does not send has not changed"


def test_pauses_grow_until_something_is_received() -> None:
    following = Following(WatchModelsRequest())
    assert [following.pause_seconds() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    told(following, synced(True))
    assert following.pause_seconds() == 0.5

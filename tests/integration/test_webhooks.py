"""A hub tells a whole cluster that a repository has changed, and models that follow it come in seconds."""

import json
from collections.abc import Iterator
from functools import partial

import pytest

from tests.support.fleet import LLAMA_CONFIG, Fleet, model, started_fleet
from tests.support.hub import generated_model
from tests.support.hub.webhooks import commit_event, post

pytestmark = pytest.mark.cluster

SECRET = "the secret of the webhook"
CONFIG = {"config.json": json.dumps(LLAMA_CONFIG).encode()}
VALUES = {"status": {"webhooks": {"enabled": True}}}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """One whose administrator has offered the webhook later, as the guide has it."""
    with started_fleet(1) as started:
        literal = f"--from-literal=secret={SECRET}"
        started.cluster.kubectl("create", "secret", "generic", "ome-hub-webhook", "-n", "ome", literal)
        started.cluster.install("status", values=VALUES)
        yield started


def digest(fleet: Fleet, manifest: dict[str, object]) -> str:
    return str((fleet.get(manifest) or {}).get("status", {}).get("artifact", {}).get("digest", ""))


def told(fleet: Fleet, event: bytes, secret: str = SECRET) -> int:
    address = f"https://{fleet.cluster.service_address('ome-status', 8444)}"
    return post(address, event, secret, fleet.cluster.status_authority)


def test_a_model_that_follows_its_source_has_the_new_revision_within_seconds(fleet: Fleet) -> None:
    for name in ("followed", "pinned"):
        fleet.hub.add_model(f"org/{name}", CONFIG, generated=generated_model(1 << 20, seed=1))
    followed = model("followed", "hf://org/followed", revisionPolicy="Follow", followIntervalSeconds=86400)
    pinned = model("pinned", "hf://org/pinned")
    fleet.apply(followed, pinned)
    before = {}
    for manifest in (followed, pinned):
        fleet.await_state(manifest, "Ready")
        before[manifest["metadata"]["name"]] = digest(fleet, manifest)

    for name in ("followed", "pinned"):
        fleet.hub.push(f"org/{name}", generated=generated_model(1 << 20, seed=2))
    assert told(fleet, commit_event("org/followed"), "another secret of somebody") == 401
    # Neither of these is of the branch that is followed, nor of a repository that is.
    assert told(fleet, commit_event("org/followed", ["refs/pr/1"])) == 200
    assert told(fleet, commit_event("org/followed", ["refs/heads/dev"])) == 200
    assert told(fleet, commit_event("org/pinned")) == 200
    assert digest(fleet, followed) == before["followed"]

    assert told(fleet, commit_event("Org/Followed")) == 200
    fleet.until("the new revision is there", lambda: digest(fleet, followed) not in ("", before["followed"]))
    fleet.until("it is Ready", partial(fleet.await_state, followed, "Ready"))
    assert digest(fleet, pinned) == before["pinned"]

"""What Pods use stays on the node: through new revisions, repairs, deletions and restarts, and not for longer."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from ome.fetch.v1.fetch_pb2 import NodeModelState, PodUse
from ome.model.v1.model_pb2 import (
    NODE_PHASE_DELETED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    REASON_IN_USE,
    Artifact,
)
from tests.integration.fetcher.ground import NODE, URI, artifacts, digests, hold_and_wait
from tests.support.fetcher_node import DEADLINE_SECONDS, Driver, FetcherNode, running_node
from tests.support.hub import Hub, generated_model
from tests.support.nats_server import NatsServer

PATH = "/models/a"


@pytest.fixture
def mounted() -> Iterator["Mounts"]:
    mounts = Mounts()
    yield mounts
    mounts.release()


class Mounts:
    """What containers have mounted: the directory that a path led to when they started."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []

    def mount(self, node: FetcherNode, path: str = PATH) -> Path:
        """Start a container."""
        self._descriptors.append(os.open(node.path(path), os.O_PATH))
        return Path(f"/proc/self/fd/{self._descriptors[-1]}/")

    def release(self) -> None:
        """End all containers."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()


def pod(started_seconds: float = 0.0, name: str = "server") -> PodUse:
    """A Pod that started so many seconds from now."""
    use = PodUse(namespace="serving", name=name)
    use.since.FromSeconds(int(time.time() + started_seconds))
    return use


async def update(driver: Driver, hub: Hub) -> Artifact:
    """Have the node hold another revision."""
    hub.add_model("org/model", {"config.json": '{"model_type": "bert"}'}, generated=generated_model(1 << 20, seed=7))
    artifact = await driver.artifact(URI, uid="again")
    revision = await driver.hold("a", URI, artifact, PATH)
    await driver.state("a", NODE_PHASE_READY, revision)
    return artifact


async def asked(driver: Driver) -> None:
    """Wait until the node has asked about Pods."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not driver.questions:
            await driver.heartbeats(1)


def is_held(state: NodeModelState) -> bool:
    return any(each.use.pods for each in state.held)


async def test_a_pod_keeps_its_whole_revision_and_a_new_one_gets_the_next(
    driver: Driver, node: FetcherNode, hub: Hub, mounted: Mounts
) -> None:
    old = await hold_and_wait(driver, "a", PATH)
    files = digests(node.path(PATH))
    driver.pods = {PATH: [pod()]}
    container = mounted.mount(node)
    new = await update(driver, hub)
    state = await driver.state("a", is_held)
    assert state.phase == NODE_PHASE_READY
    assert state.artifact == new
    (held,) = state.held
    assert held.artifact == old
    assert (held.path, held.use.pods, held.use.users[0].name) == (PATH, 1, "server")
    assert held.until.ToSeconds() - held.released_at.ToSeconds() == 86400
    assert digests(container) == files
    assert digests(mounted.mount(node)) != files

    driver.pods = {}
    await driver.state("a", lambda state: not state.held)
    assert digests(container) == {}
    assert len(artifacts(node)) == 1


async def test_a_model_is_gone_although_another_keeps_the_same_files_for_a_pod(
    driver: Driver, node: FetcherNode
) -> None:
    await hold_and_wait(driver, "a", PATH)
    await hold_and_wait(driver, "b", "/models/b")
    driver.pods = {"/models/b": [pod()]}
    left = await driver.drop("b")
    await driver.state("b", is_held)
    gone = await driver.drop("a")
    await driver.state("a", NODE_PHASE_DELETED, gone)
    assert len(artifacts(node)) == 1

    driver.pods = {}
    await driver.state("b", NODE_PHASE_DELETED, left)
    assert not artifacts(node)


async def test_a_pod_that_started_after_the_link_moved_holds_nothing(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    await hold_and_wait(driver, "a", PATH)
    driver.pods = {PATH: [pod(started_seconds=600)]}
    await update(driver, hub)
    await driver.state("a", lambda state: not state.held and state.phase == NODE_PHASE_READY)
    assert len(artifacts(node)) == 1


async def test_a_deletion_takes_the_name_at_once_and_waits_for_pods_with_the_files(
    driver: Driver, node: FetcherNode, mounted: Mounts
) -> None:
    await hold_and_wait(driver, "a", PATH)
    files = digests(node.path(PATH))
    driver.pods = {PATH: [pod(), pod(name="other")]}
    container = mounted.mount(node)
    revision = await driver.drop("a")
    state = await driver.state("a", lambda state: state.problem.reason == REASON_IN_USE, revision)
    assert state.phase == NODE_PHASE_UPDATING
    assert "Pod serving/server and 1 more Pod use it: the files stay until 20" in state.problem.message
    assert not node.path(PATH).exists()
    assert digests(container) == files

    driver.pods = {}
    await driver.state("a", NODE_PHASE_DELETED, revision)
    assert digests(container) == {}
    assert node.leftovers() == []


async def test_a_person_ends_the_wait_by_a_word_on_the_model(
    driver: Driver, node: FetcherNode, mounted: Mounts
) -> None:
    await hold_and_wait(driver, "a", PATH)
    driver.pods = {PATH: [pod()]}
    container = mounted.mount(node)
    await driver.drop("a")
    await driver.state("a", lambda state: state.problem.reason == REASON_IN_USE)
    revision = await driver.drop("a", in_use_grace_seconds=0)
    await driver.state("a", NODE_PHASE_DELETED, revision)
    assert digests(container) == {}


async def test_pods_hold_files_for_no_longer_than_the_node_says(
    driver: Driver, node: FetcherNode, mounted: Mounts
) -> None:
    await hold_and_wait(driver, "a", PATH)
    driver.pods = {PATH: [pod()]}
    container = mounted.mount(node)
    revision = await driver.drop("a")
    await driver.state("a", lambda state: state.problem.reason == REASON_IN_USE, revision)
    assert digests(container) != {}
    await node.stop()
    await node.start(OME_IN_USE_GRACE_SECONDS="1")
    await driver.state("a", NODE_PHASE_DELETED, revision)
    assert digests(container) == {}


async def test_nothing_is_kept_where_pods_may_hold_nothing(driver: Driver, node: FetcherNode, hub: Hub) -> None:
    await node.stop()
    await node.start(OME_IN_USE_GRACE_SECONDS="0")
    await hold_and_wait(driver, "a", PATH)
    driver.pods = {PATH: [pod()]}
    await update(driver, hub)
    assert len(artifacts(node)) == 1
    assert driver.questions == []


async def test_while_no_controller_answers_everything_stays(driver: Driver, node: FetcherNode, mounted: Mounts) -> None:
    await hold_and_wait(driver, "a", PATH)
    container = mounted.mount(node)
    driver.pods = None
    revision = await driver.drop("a")
    await driver.state("a", NODE_PHASE_UPDATING, revision)
    await asked(driver)
    assert digests(container) != {}
    driver.pods = {}
    await driver.state("a", NODE_PHASE_DELETED, revision)


async def test_a_restart_forgets_nothing_of_what_pods_hold(
    driver: Driver, node: FetcherNode, hub: Hub, mounted: Mounts
) -> None:
    await hold_and_wait(driver, "a", PATH)
    files = digests(node.path(PATH))
    driver.pods = {PATH: [pod()]}
    container = mounted.mount(node)
    await update(driver, hub)
    released_at = (await driver.state("a", is_held)).held[0].released_at
    await node.kill()
    await node.start(OME_ORPHAN_GRACE_SECONDS="0")
    driver.questions.clear()
    await asked(driver)
    state = await driver.state("a", is_held)
    assert state.held[0].released_at == released_at
    assert digests(container) == files
    driver.pods = {}
    await driver.state("a", lambda state: not state.held)
    assert len(artifacts(node)) == 1


async def test_a_revision_that_pods_still_hold_comes_back_without_a_download(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    old = await hold_and_wait(driver, "a", PATH)
    driver.pods = {PATH: [pod()]}
    await update(driver, hub)
    await driver.state("a", is_held)
    hub.forget_requests()
    revision = await driver.hold("a", URI, old, PATH)
    await driver.state("a", NODE_PHASE_READY, revision)
    assert hub.sent_bytes("*.safetensors") == 0


async def test_a_node_that_is_no_longer_selected_keeps_the_model_for_a_while_and_as_long_as_pods_use_it(
    driver: Driver, node: FetcherNode
) -> None:
    await hold_and_wait(driver, "a", PATH)
    driver.pods = {PATH: [pod(started_seconds=600)]}
    since = PodUse()
    since.since.GetCurrentTime()
    revision = await driver.drop("a", unselected_since=since.since)
    state = await driver.state("a", lambda state: state.problem.reason == REASON_IN_USE, revision)
    assert "stays for a moment in case it is again" in state.problem.message
    # As if that moment, a minute, were over.
    since.since.seconds -= 120
    revision = await driver.drop("a", unselected_since=since.since)
    state = await driver.state("a", lambda state: "Pod serving/server uses it" in state.problem.message, revision)
    assert node.path(PATH).is_dir()
    assert state.path == PATH
    driver.pods = {}
    await driver.state("a", NODE_PHASE_DELETED, revision)
    assert node.leftovers() == []


async def test_a_node_that_is_selected_again_in_time_moves_nothing(driver: Driver, node: FetcherNode, hub: Hub) -> None:
    artifact = await hold_and_wait(driver, "a", PATH)
    since = PodUse()
    since.since.GetCurrentTime()
    revision = await driver.drop("a", unselected_since=since.since)
    await driver.state("a", lambda state: state.problem.reason == REASON_IN_USE, revision)
    hub.forget_requests()
    revision = await driver.hold("a", URI, artifact, PATH)
    await driver.state("a", NODE_PHASE_READY, revision)
    assert hub.sent_bytes() == 0


async def test_a_model_that_is_deleted_while_it_is_spared_goes(driver: Driver, node: FetcherNode) -> None:
    await hold_and_wait(driver, "a", PATH)
    since = PodUse()
    since.since.GetCurrentTime()
    revision = await driver.drop("a", unselected_since=since.since)
    await driver.state("a", lambda state: state.problem.reason == REASON_IN_USE, revision)
    revision = await driver.drop("a")
    await driver.state("a", NODE_PHASE_DELETED, revision)
    assert node.leftovers() == []


@pytest_asyncio.fixture
async def roomy(tmp_path: Path, server: NatsServer, driver: Driver, hub: Hub) -> AsyncIterator[FetcherNode]:
    """A node that never takes its disk for full, however full that of the machine is."""
    environment = {"HF_ENDPOINT": hub.endpoint, "OME_HIGH_WATERMARK_PERCENT": "100"}
    async with running_node(tmp_path, server.url, NODE, environment) as node:
        yield node


async def hold_two(driver: Driver, hub: Hub) -> tuple[Artifact, Artifact]:
    """Two revisions of a model, the later of which is Ready and the earlier kept."""
    old = await hold_and_wait(driver, "a", PATH)
    hub.add_model("org/model", {"config.json": '{"model_type": "bert"}'}, generated=generated_model(1 << 20, seed=7))
    new = await driver.artifact(URI, uid="again")
    revision = await driver.hold("a", URI, new, PATH, kept_revisions=[old.digest])
    await driver.state("a", NODE_PHASE_READY, revision)
    return old, new


async def test_going_back_to_a_revision_that_the_node_keeps_costs_no_byte_also_after_a_restart(
    driver: Driver, roomy: FetcherNode, hub: Hub
) -> None:
    node = roomy
    old = await hold_and_wait(driver, "a", PATH)
    files = digests(node.path(PATH))
    hub.add_model("org/model", {"config.json": '{"model_type": "bert"}'}, generated=generated_model(1 << 20, seed=7))
    new = await driver.artifact(URI, uid="again")
    revision = await driver.hold("a", URI, new, PATH, kept_revisions=[old.digest])
    state = await driver.state("a", NODE_PHASE_READY, revision)
    assert not state.held, "no Pod holds it"
    assert [*state.kept_revisions] == [old.digest]
    await node.stop()
    hub.forget_requests()
    await node.start()
    revision = await driver.hold("a", URI, old, PATH, kept_revisions=[new.digest])
    await driver.state("a", NODE_PHASE_READY, revision)
    assert digests(node.path(PATH)) == files
    assert not list(hub.requests(port="cdn"))
    assert len(artifacts(node)) == 2

    revision = await driver.hold("a", URI, old, PATH)
    await driver.state("a", NODE_PHASE_READY, revision)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(artifacts(node)) > 1:
            await driver.heartbeats(1)
    assert digests(node.path(PATH)) == files


async def test_a_deleted_model_takes_the_revisions_along_that_it_kept(
    driver: Driver, roomy: FetcherNode, hub: Hub
) -> None:
    node = roomy
    await hold_two(driver, hub)
    assert len(artifacts(node)) == 2
    gone = await driver.drop("a")
    await driver.state("a", NODE_PHASE_DELETED, gone)
    assert not artifacts(node)


async def test_a_kept_revision_stays_when_a_node_begins_anew_after_nats_has_lost_what_is_wanted(
    driver: Driver, roomy: FetcherNode, hub: Hub
) -> None:
    node = roomy
    old, new = await hold_two(driver, hub)
    await node.stop()
    await driver.forget("a")
    await node.start()
    await driver.heartbeats(4)
    assert len(artifacts(node)) == 2
    revision = await driver.hold("a", URI, new, PATH, kept_revisions=[old.digest])
    state = await driver.state("a", NODE_PHASE_READY, revision)
    assert [*state.kept_revisions] == [old.digest]

"""Where the fetcher puts models, where it refuses to, and what it leaves alone."""

from ome.model.v1.model_pb2 import (
    NODE_PHASE_DELETED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    REASON_INVALID_PATH,
    REASON_PATH_CONFLICT,
    REASON_PATH_OCCUPIED,
)
from services.fetcher.transfer.proving import WHOLE_BYTES
from tests.integration.fetcher.ground import (
    SHARD,
    URI,
    artifacts,
    fetched_bytes,
    hold_and_wait,
)
from tests.support.fetcher_node import Driver, FetcherNode
from tests.support.hub import Fault, Hub, generated_model


async def test_a_model_without_a_path_lies_below_the_first_root_by_kind_and_name(
    driver: Driver, node: FetcherNode
) -> None:
    await hold_and_wait(driver, "mine")

    assert node.path("/models/clusterbasemodel/mine/config.json").is_file()


async def test_unsafe_paths_are_refused_before_anything_is_fetched(driver: Driver, node: FetcherNode, hub: Hub) -> None:
    artifact = await driver.artifact(URI)
    hub.forget_requests()
    paths = ["/etc/model", "/models/../etc/model", "/models", "/models/.ome/artifacts", "models/a", "/models/a\0b"]
    for number, path in enumerate(paths):
        await driver.hold(f"m{number}", URI, artifact, path)
    for number, path in enumerate(paths):
        state = await driver.state(f"m{number}", NODE_PHASE_FAILED)
        assert state.problem.reason == REASON_INVALID_PATH, path
        assert not state.problem.HasField("retry_at"), path
    assert hub.requests() == []
    assert node.leftovers() == []

    for number in range(len(paths)):
        await driver.state(f"m{number}", NODE_PHASE_DELETED, await driver.drop(f"m{number}"))


async def test_a_foreign_directory_is_left_alone_and_the_model_comes_when_it_has_been_moved(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    foreign = node.path("/models/a")
    foreign.mkdir()
    (foreign / "precious").write_text("mine")
    artifact = await driver.artifact(URI)
    hub.forget_requests()
    await driver.hold("a", URI, artifact, "/models/a")
    state = await driver.state("a", NODE_PHASE_FAILED)
    assert state.problem.reason == REASON_PATH_OCCUPIED
    assert (foreign / "precious").read_text() == "mine"
    assert hub.requests() == []

    foreign.rename(node.path("/models/elsewhere"))

    await driver.state("a", NODE_PHASE_READY)


async def test_deletion_of_a_model_over_a_foreign_directory_leaves_that_alone(
    driver: Driver, node: FetcherNode
) -> None:
    node.path("/models/a").mkdir()
    (node.path("/models/a") / "precious").write_text("mine")
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    await driver.state("a", NODE_PHASE_FAILED)

    revision = await driver.drop("a")
    await driver.state("a", NODE_PHASE_DELETED, revision)

    assert node.leftovers() == ["models/a/precious"]


async def test_a_link_in_the_way_of_a_path_is_not_followed(driver: Driver, node: FetcherNode) -> None:
    node.path("/outside").mkdir()
    node.path("/models/link").symlink_to(node.path("/outside"))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/link/a")
    state = await driver.state("a", NODE_PHASE_FAILED)

    assert state.problem.reason == REASON_INVALID_PATH
    assert list(node.path("/outside").iterdir()) == []


async def test_two_models_cannot_have_one_path(driver: Driver, node: FetcherNode) -> None:
    artifact = await hold_and_wait(driver, "first", "/models/a")
    await driver.hold("second", URI, artifact, "/models/a")
    state = await driver.state("second", NODE_PHASE_FAILED)
    assert state.problem.reason == REASON_PATH_CONFLICT
    assert state.problem.message.startswith("ClusterBaseModel first already uses /models/a;")

    revision = await driver.drop("first")
    await driver.state("first", NODE_PHASE_DELETED, revision)

    await driver.state("second", NODE_PHASE_READY)


async def test_a_changed_path_moves_no_bytes(driver: Driver, node: FetcherNode, hub: Hub) -> None:
    artifact = await hold_and_wait(driver, "a", "/models/a")
    hub.forget_requests()

    revision = await driver.hold("a", URI, artifact, "/models/deep/b")
    state = await driver.state("a", NODE_PHASE_READY, revision)

    assert state.path == "/models/deep/b"
    assert (node.path("/models/deep/b") / "config.json").is_file()
    assert not node.path("/models/a").is_symlink()
    assert hub.requests() == []


async def test_two_models_with_equal_files_share_one_copy_until_the_last_goes(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    artifact = await driver.artifact(URI)
    await driver.hold("a", URI, artifact, "/models/a")
    await driver.hold("b", URI, artifact, "/models/b")
    await driver.state("a", NODE_PHASE_READY)
    await driver.state("b", NODE_PHASE_READY)
    assert len(artifacts(node)) == 1
    assert fetched_bytes(hub, "*.safetensors") == 2 * SHARD

    await driver.state("a", NODE_PHASE_DELETED, await driver.drop("a"))
    assert (node.path("/models/b") / "config.json").is_file()
    await driver.state("b", NODE_PHASE_DELETED, await driver.drop("b"))

    assert node.leftovers() == []


async def test_files_that_are_to_stay_outlive_their_model_and_serve_the_next(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    await hold_and_wait(driver, "a", "/models/a")
    await driver.state("a", NODE_PHASE_DELETED, await driver.drop("a", reserve=True))
    assert (node.path("/models/a") / "config.json").is_file()

    await node.stop()
    await node.start()
    assert (node.path("/models/a") / "config.json").is_file()
    hub.forget_requests()
    await hold_and_wait(driver, "b", "/models/a")
    assert fetched_bytes(hub, "*.safetensors") == 0
    await driver.state("b", NODE_PHASE_DELETED, await driver.drop("b"))

    assert node.leftovers() == []


async def test_files_that_outlive_their_model_serve_one_at_another_path_and_go_when_their_time_is_over(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    await hold_and_wait(driver, "a", "/models/a")
    await driver.state("a", NODE_PHASE_DELETED, await driver.drop("a", reserve=True))
    hub.forget_requests()
    await hold_and_wait(driver, "b", "/models/b")
    assert fetched_bytes(hub, "*.safetensors") == 0

    await node.stop()
    await node.start(OME_RESERVED_SECONDS="1")
    await node.removed("/models/a")
    assert (node.path("/models/b") / "config.json").is_file()
    await driver.state("b", NODE_PHASE_DELETED, await driver.drop("b"))
    assert node.leftovers() == []


async def test_models_of_two_scopes_share_one_copy_once_the_second_source_has_sent_parts_of_it(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    artifact = await hold_and_wait(driver, "a", "/models/a")
    hub.forget_requests()
    revision = await driver.hold("b", URI, artifact, "/models/b", namespace="team", trust_scopes=["team"])
    await driver.state("b", NODE_PHASE_READY, revision)
    assert len(artifacts(node)) == 1
    assert 0 < fetched_bytes(hub, "*.safetensors") <= 2 * WHOLE_BYTES

    hub.forget_requests()
    revision = await driver.hold("c", URI, artifact, "/models/c", namespace="team", trust_scopes=["team"])
    await driver.state("c", NODE_PHASE_READY, revision)
    assert hub.requests() == []


async def test_a_key_that_is_merely_missing_removes_nothing_and_the_node_says_what_it_has(
    driver: Driver, node: FetcherNode
) -> None:
    artifact = await hold_and_wait(driver, "a", "/models/a")
    await node.stop()
    await driver.forget("a")
    await node.start(OME_ORPHAN_GRACE_SECONDS="0")

    state = await driver.state("a", lambda state: state.assignment_revision == 0)

    assert (state.phase, state.artifact, state.path) == (NODE_PHASE_READY, artifact, "/models/a")
    revision = await driver.drop("marker")
    await driver.state("marker", NODE_PHASE_DELETED, revision)
    assert node.path("/models/a").is_symlink()


async def test_a_model_that_is_to_be_kept_stays_ready_as_it_is(driver: Driver, node: FetcherNode, hub: Hub) -> None:
    artifact = await hold_and_wait(driver, "a", "/models/a")
    hub.forget_requests()

    state = await driver.state("a", NODE_PHASE_READY, await driver.keep("a"))
    await node.kill()
    await node.start(OME_ORPHAN_GRACE_SECONDS="0")
    revision = await driver.drop("marker")
    await driver.state("marker", NODE_PHASE_DELETED, revision)

    assert (state.artifact, state.path) == (artifact, "/models/a")
    assert driver.phases("a")[-1] == NODE_PHASE_READY
    assert node.path("/models/a").is_symlink()
    assert hub.requests() == []


async def test_what_no_object_names_goes_only_after_the_grace(driver: Driver, node: FetcherNode) -> None:
    await hold_and_wait(driver, "a", "/models/a")
    await driver.forget("a")
    revision = await driver.drop("a", unclaimed=True)
    state = await driver.state("a", lambda state: state.assignment_revision == revision)
    assert state.phase == NODE_PHASE_READY, "the grace of an hour has only begun"

    await node.stop()
    await node.start(OME_ORPHAN_GRACE_SECONDS="0.2")
    await driver.state("a", NODE_PHASE_DELETED, revision)

    assert node.leftovers() == []


async def test_what_was_begun_for_a_model_stays_while_its_key_is_missing(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    hub.add_model("org/other", generated=generated_model(1 << 20))
    await hold_and_wait(driver, "other", "/models/other", "hf://org/other")
    stall = hub.inject(Fault("stall", path="*/model-00002-*", after_bytes=1000))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    stall.wait_fired()
    await node.kill()
    begun = [path.name for path in node.path("/models/.ome/staging").iterdir()]
    assert begun
    for uid in ("a", "other"):
        await driver.forget(uid)

    await node.start(OME_ORPHAN_GRACE_SECONDS="0.1")
    await driver.state("other", lambda state: state.assignment_revision == 0)
    await driver.heartbeats(4)

    assert [path.name for path in node.path("/models/.ome/staging").iterdir()] == begun

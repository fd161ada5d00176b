"""Whatever goes wrong, a fetcher that lives on has no more open and holds no more than before."""

import asyncio

from ome.model.v1.model_pb2 import NODE_PHASE_DELETED, NODE_PHASE_FAILED, NODE_PHASE_READY
from tests.integration.fetcher.ground import NODE, URI
from tests.support.fetcher_node import Driver, FetcherNode, connected_driver
from tests.support.hub import Fault, Hub
from tests.support.nats_server import NatsServer

FAULTS = {
    "cut": Fault("cut", path="*/model-00002-*", after_bytes=100_000),
    "reset": Fault("reset", path="*/model-00002-*"),
    "corrupt": Fault("corrupt", path="*/model-00001-*", offset=77),
    "short": Fault("short", path="*/model-00001-*"),
    "wrong range": Fault("wrong_range", path="*/model-00001-*", offset=1),
    "not there": Fault("status", path="*.safetensors", status=404),
    "redirected in circles": Fault("redirect", path="*/model-00001-*"),
    # What a host asks for holds for every transfer of the node, the next one of the test among them.
    "asked to wait": Fault("status", path="*.safetensors", status=429, retry_after="1"),
}


# All that the executors of a fetcher may have, which they make when they are needed and keep. A transfer has eight of
# its own, so two that left theirs behind would be more.
MOST_THREADS = 24


async def settled(node: FetcherNode, most_descriptors: int) -> None:
    """Wait until the fetcher has no more open than that, and no more threads than it ever needs when it is idle."""
    try:
        async with asyncio.timeout(30):
            while node.descriptors() > most_descriptors or node.threads() > MOST_THREADS:
                await asyncio.sleep(0.05)
    except TimeoutError:
        found = f"{node.descriptors()} descriptors and {node.threads()} threads"
        raise AssertionError(f"{found}, not {most_descriptors} and {MOST_THREADS} at most") from None


async def round_of(driver: Driver, hub: Hub, fault: Fault | None) -> None:
    """A model that fails by a fault, is mended and deleted."""
    artifact = await driver.artifact(URI)
    injected = hub.inject(fault) if fault else None
    await driver.hold("a", URI, artifact, "/models/a")
    if injected:
        await driver.state("a", NODE_PHASE_FAILED)
        injected.wait_fired()
        hub.clear_faults()
        # Another assignment is attempted at once, whatever the last one was asked to wait.
        await driver.hold("a", URI, artifact, "/models/a", generation=2)
    await driver.state("a", NODE_PHASE_READY)
    await driver.state("a", NODE_PHASE_DELETED, await driver.drop("a"))
    await driver.forget("a")


async def test_no_fault_leaves_a_descriptor_a_thread_or_a_file(driver: Driver, node: FetcherNode, hub: Hub) -> None:
    await node.start()
    await round_of(driver, hub, None)
    # What fails over HTTP may come over Xet: the client that asks the hub for that is made then, and stays connected.
    await round_of(driver, hub, FAULTS["cut"])
    most = node.descriptors()
    for fault in FAULTS.values():
        await round_of(driver, hub, fault)
        await settled(node, most)
        assert node.leftovers() == []


async def test_a_server_that_comes_and_goes_costs_nothing_that_stays(
    driver: Driver, node: FetcherNode, hub: Hub, server: NatsServer
) -> None:
    await node.start()
    await round_of(driver, hub, None)
    most = node.descriptors()
    for number in range(3):
        await server.kill()
        await server.start()
        await node.ready()
        async with connected_driver(server, NODE) as again:
            artifact = await again.artifact(URI, uid=f"resolver-{number}")
            await again.hold(f"m{number}", URI, artifact, "/models/a")
            await again.state(f"m{number}", NODE_PHASE_READY)
            await again.state(f"m{number}", NODE_PHASE_DELETED, await again.drop(f"m{number}"))
        await settled(node, most)
        assert node.leftovers() == []

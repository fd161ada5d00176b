"""A node that is given back: the command of the guide takes everything of OME off it, and nothing else."""

import asyncio
import os
import re
import signal
import sys
from typing import Any

import pytest
import yaml

from ome.model.v1.model_pb2 import NODE_PHASE_READY
from tests.integration.fetcher.ground import URI
from tests.support.fetcher_node import Driver, FetcherNode
from tests.support.programs import ROOT

STRANGER = 4711


def pod_of_the_guide() -> dict[str, Any]:
    text = (ROOT / "docs" / "guides" / "operations.md").read_text()
    [manifest] = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "args: [clean]" in block]
    pod: dict[str, Any] = yaml.safe_load(manifest)
    return pod


async def clean(node: FetcherNode, *under: str, **environ: str) -> tuple[int | None, str]:
    """Run the container of the guide's Pod on a node; exit code and log."""
    [container] = pod_of_the_guide()["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]} | {"OME_HOST_ROOT": str(node.host)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *under, "services.fetcher", *container["args"]),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", **variables, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def hold(driver: Driver, node: FetcherNode, *under: str) -> None:
    """Two models that share their files, one of them in a folder that was made for it, beside a file of somebody."""
    await node.start(*under)
    artifact = await driver.artifact(URI)
    for uid, path in (("a", "/models/team/a"), ("b", "/models/b")):
        await driver.state(uid, NODE_PHASE_READY, await driver.hold(uid, URI, artifact, path))
    node.path("/models/mine.txt").write_text("mine")


def test_the_pod_of_the_guide_mounts_the_roots_that_it_cleans() -> None:
    spec = pod_of_the_guide()["spec"]
    [container] = spec["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    paths = {each["name"]: each["hostPath"]["path"] for each in spec["volumes"]}
    mounted = {each["mountPath"]: paths[each["name"]] for each in container["volumeMounts"]}

    roots = variables["OME_MODEL_ROOTS"].split(",")
    assert mounted == {f"{variables['OME_HOST_ROOT']}{root}": root for root in roots}


async def test_a_node_that_is_given_back_has_what_others_put_there_and_nothing_of_ours(
    driver: Driver, node: FetcherNode
) -> None:
    await hold(driver, node)
    await node.stop()

    code, log = await clean(node)

    assert code == 0, log
    assert [path.name for path in node.path("/models").iterdir()] == ["mine.txt"]
    assert (await clean(node))[0] == 0, "a second time there is nothing to do"


async def test_a_root_that_a_fetcher_serves_is_not_cleaned(driver: Driver, node: FetcherNode) -> None:
    await hold(driver, node)

    code, log = await clean(node)

    assert code == 1
    assert "another fetcher already keeps the models below /models" in log
    assert (node.path("/models/b") / "config.json").exists()


@pytest.mark.parametrize("failpoint", ["link-removed", "link-removed:2", "leftover-trashed"])
async def test_cleaning_that_was_cut_short_goes_on_where_it_was(
    driver: Driver, node: FetcherNode, failpoint: str
) -> None:
    await hold(driver, node)
    await node.stop()

    assert (await clean(node, OME_FAILPOINT=failpoint))[0] == -signal.SIGKILL
    assert (await clean(node))[0] == 0

    assert [path.name for path in node.path("/models").iterdir()] == ["mine.txt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
async def test_what_may_not_be_removed_is_named_with_its_owner(driver: Driver, node: FetcherNode) -> None:
    await hold(driver, node, "tests.support.without_override")
    await node.stop()
    [artifact] = node.path("/models/.ome/artifacts").iterdir()
    (artifact / "cache").mkdir()
    (artifact / "cache" / "compiled").write_text("x")
    os.chown(artifact / "cache", STRANGER, STRANGER)

    code, log = await clean(node, "tests.support.without_override")

    assert code == 1
    assert f"/cache belongs to uid {STRANGER}" in log
    assert not os.path.lexists(node.path("/models/b"))

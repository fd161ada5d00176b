"""The Python client against the service: its page of examples runs, errors have their names, both flavours agree."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from ome.fetch.v1.fetch_pb2 import Problem
from ome.model.v1.model_pb2 import NODE_PHASE_FAILED, NODE_PHASE_READY, REASON_INSUFFICIENT_DISK
from ome_models import AsyncModels, Denied, Missing, Models, ModelState, Refused, Unauthenticated, Unavailable
from ome_models.connection import SERVICE_NAME
from tests.support.mounted_secret import MountedSecret, usual_sides
from tests.support.programs import ROOT
from tests.support.status_process import StatusCluster, eventually, running_status_cluster
from tools.localcluster.status_client import AUDIENCE

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

PAGE = ROOT / "docs" / "guides" / "python-client.md"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StatusCluster]:
    async with running_status_cluster(tmp_path_factory.mktemp("status")) as running:
        for name in ("node-1", "node-2"):
            await running.node(name, gpu="H100")
        sides = usual_sides()
        door = MountedSecret(running.folder / "door")
        pair = sides.authority.issue_server("door", (SERVICE_NAME,), ("127.0.0.1",))
        door.fill_tls(pair, sides.authority.certificate)
        await running.start_replica("status-a", OME_GRPC_TLS_DIR=str(door.folder))
        model = await running.model("llama", storage={"storageUri": "hf://org/m", "nodeSelector": {"gpu": "H100"}})
        await running.plan(model, ["node-1", "node-2"])
        await running.observed(model, "node-1", NODE_PHASE_READY)
        problem = Problem(reason=REASON_INSUFFICIENT_DISK, message="needs 2 GiB, has 1 GiB")
        await running.observed(model, "node-2", NODE_PHASE_FAILED, problem=problem)
        (running.folder / "token").write_text(await running.reader_token())
        (running.folder / "service-ca.crt").write_bytes(sides.authority.certificate.read_bytes())

        def ready() -> bool:
            with client(running) as models:
                try:
                    return bool(models.get("llama").state == ModelState.MODEL_STATE_READY)
                except (Missing, Unavailable, Denied):
                    return False

        async def answers() -> bool:
            return await asyncio.to_thread(ready)

        await eventually(answers, "the service knows the model")
        yield running


def client(cluster: StatusCluster, kind: Any = Models, **more: Any) -> Any:
    given = {"token_file": cluster.folder / "token", **more}
    return kind(cluster.replicas[0].grpc_address, ca_file=cluster.folder / "service-ca.crt", **given)


async def test_the_examples_of_the_page_run(cluster: StatusCluster, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 5
    places = {
        "ome-status.ome.svc:9090": cluster.replicas[0].grpc_address,
        "/var/run/secrets/ome-status/token": str(cluster.folder / "token"),
        "/etc/ome/ca.crt": str(cluster.folder / "service-ca.crt"),
    }

    def run() -> None:
        names: dict[str, Any] = {}
        for number, block in enumerate(blocks):
            code = block
            for written, real in places.items():
                code = code.replace(written, real)
            exec(compile(code, f"{PAGE.name}, example {number + 1}", "exec"), names)
            # The first example closes what the others go on with.
            names["models"] = client(cluster)

    await asyncio.to_thread(run)
    printed = capsys.readouterr().out
    assert "NotFound" in printed
    assert "the cluster's administrator: Remove models from the node" in printed
    assert "gpu=H100 True it has gpu=H100" in printed


async def test_errors_are_named_by_what_the_caller_does_next(cluster: StatusCluster) -> None:
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    await cluster.kube.request("POST", accounts, {"metadata": {"name": "stranger"}})
    stranger = await cluster.token_of("stranger", "default", AUDIENCE)
    async with client(cluster, AsyncModels) as models:
        for wanted, ask in ((Missing, models.get("absent")), (Refused, models.get("x", kind="BaseModel"))):
            with pytest.raises(wanted) as refused:
                await ask
            assert refused.value.reason
    async with client(cluster, AsyncModels, token_file=None, token="nonsense") as models:
        with pytest.raises(Unauthenticated):
            await models.nodes()
    async with client(cluster, AsyncModels, token_file=None, token=lambda: stranger) as models:
        with pytest.raises(Denied):
            await models.nodes()
    async with AsyncModels("127.0.0.1:1", plaintext=True, timeout_seconds=5) as models:
        with pytest.raises(Unavailable):
            await models.nodes()


async def test_both_flavours_give_the_same_answers(cluster: StatusCluster) -> None:
    with client(cluster) as models:
        blocking = await asyncio.to_thread(lambda: (list(models.list()), models.nodes(), models.node("node-1")))
    async with client(cluster, AsyncModels) as models:
        awaited = ([each async for each in models.list()], await models.nodes(), await models.node("node-1"))
    assert blocking == awaited

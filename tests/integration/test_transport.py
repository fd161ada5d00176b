"""The certificates that the charts make: services use them from the first start, and take up new ones as they run."""

import json

import grpc
import pytest

from ome.status.v1 import status_pb2
from ome.status.v1.status_pb2_grpc import StatusServiceStub
from tests.support.fleet import LLAMA_CONFIG, Fleet, Object, model

pytestmark = pytest.mark.cluster

SECRETS = ("ome-parser-tls", "ome-parser-client-tls", "ome-status-tls")


def data_of(fleet: Fleet, name: str) -> dict[str, str]:
    """What a Secret of the services holds."""
    found: dict[str, str] = json.loads(fleet.cluster.kubectl("get", "secret", name, "-n", "ome", "-o", "json"))["data"]
    return found


def processes(fleet: Fleet) -> dict[str, int | None]:
    return {pod.name: pod.pid for service in ("parser", "status", "fetcher") for pod in fleet.cluster.pods(service)}


def parsed(fleet: Fleet, name: str) -> Object:
    """Apply a model and wait for what only the parser can say of it."""
    config = json.dumps(LLAMA_CONFIG).encode()
    files = {"config.json": config, "pytorch_model.bin": b"weights", "README.md": name.encode()}
    fleet.hub.add_model(f"org/{name}", files)
    manifest = model(name, f"hf://org/{name}")
    before = fleet.metric("fetcher", 'ome_fetcher_parses_total{result="Ok"}')
    fleet.apply(manifest)
    fleet.await_state(manifest, "Ready")
    fleet.until(f"{name} is parsed", lambda: fleet.metric("fetcher", 'ome_fetcher_parses_total{result="Ok"}') > before)
    return manifest


def test_an_upgrade_keeps_the_certificates(fleet: Fleet) -> None:
    before = {name: data_of(fleet, name) for name in SECRETS}
    fleet.cluster.install("parser", "status")
    assert {name: data_of(fleet, name) for name in SECRETS} == before


def test_new_certificates_are_taken_up_by_the_processes_that_run(fleet: Fleet) -> None:
    before, running = {name: data_of(fleet, name) for name in SECRETS}, processes(fleet)
    # One of the parser's two is enough: nothing can make a single certificate under the same authority.
    fleet.cluster.kubectl("delete", "secret", "ome-parser-client-tls", "-n", "ome")
    # A certificate for other names is another certificate.
    fleet.cluster.install("parser", "status", values={"status": {"tls": {"extraNames": ["models.example.com"]}}})

    after = {name: data_of(fleet, name) for name in SECRETS}
    for name in SECRETS:
        assert after[name]["ca.crt"] != before[name]["ca.crt"]
    manifest = parsed(fleet, "after-the-change")

    def is_told() -> bool:
        with fleet.status_service() as service:
            try:
                return bool(service.ListModels(status_pb2.ListModelsRequest()).models)
            except grpc.RpcError:
                return False

    fleet.until("status shows its new certificate", is_told)
    assert processes(fleet) == running
    fleet.delete(manifest)
    fleet.await_gone(manifest)


def test_status_says_nothing_in_plain_text(fleet: Fleet) -> None:
    with grpc.insecure_channel(fleet.cluster.service_address("ome-status", 9090)) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            StatusServiceStub(channel).ListModels(status_pb2.ListModelsRequest(), timeout=10)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE

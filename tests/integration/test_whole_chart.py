"""The chart that installs everything, on a real API server: accepted, and what it makes once stays through upgrades."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs.chassis.kube import KubeClient
from services.controller import first_secrets
from tests.support.apiserver import ApiServer, running_api_server
from tests.support.programs import CHARTS, render, run
from tools.localcluster.kube import apply

pytestmark = pytest.mark.cluster

SECRETS = "/api/v1/namespaces/ome/secrets"
PLURALS = {"ServiceAccount": "/api/v1", "Role": "/apis/rbac.authorization.k8s.io/v1"}
PLURALS["RoleBinding"] = PLURALS["Role"]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api_server(tmp_path) as running:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ome"}}
        await apply(running.kube, "/api/v1/namespaces/ome", namespace)
        yield running


def upgrade(server: ApiServer, *values: str) -> str:
    """What helm says at the end."""
    said = run(
        *("helm", "upgrade", "--install", "ome", str(CHARTS / "ome"), "--namespace", "ome", "--no-hooks"),
        *("--kubeconfig", str(server.kubeconfig), "--set", "global.imageRegistry=registry.example.com", *values),
    )
    return said.stdout


async def secrets(kube: KubeClient) -> dict[str, dict[str, str]]:
    items = (await kube.get(SECRETS))["items"]
    return {item["metadata"]["name"]: item["data"] for item in items if item["metadata"]["name"].startswith("ome-")}


async def test_certificates_survive_an_upgrade_and_follow_their_names(server: ApiServer) -> None:
    await asyncio.to_thread(upgrade, server)
    first = await secrets(server.kube)
    await asyncio.to_thread(upgrade, server, "--set", "ome-fetcher.logLevel=debug")
    second = await secrets(server.kube)
    await asyncio.to_thread(upgrade, server, "--set", "ome-nats.tls.extraNames={nats.example.com}")
    third = await secrets(server.kube)

    assert {"ome-nats-tls", "ome-nats-ca", "ome-parser-tls", "ome-parser-client-tls", "ome-status-tls"} == set(first)
    assert second == first
    changed = {name for name in first if third[name] != first[name]}
    assert changed == {"ome-nats-tls", "ome-nats-ca"}


async def test_what_the_cluster_lacks_is_said_until_it_is_there(server: ApiServer) -> None:
    said = await asyncio.to_thread(upgrade, server)
    assert "kubectl label namespace ome pod-security.kubernetes.io/enforce=privileged" in said
    assert "MISSING: No StorageClass is the default" in said
    assert "ome-nats-issuer" not in said

    said = await asyncio.to_thread(upgrade, server, "--set", "install.nats=false")
    assert "MISSING: The Secret ome-nats-issuer is not there" in said

    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ome", "labels": labels}}
    await apply(server.kube, "/api/v1/namespaces/ome", namespace)
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
    usual: dict[str, Any] = {
        "metadata": {"name": "usual", "annotations": annotations},
        "provisioner": "example.com/disk",
    }
    usual |= {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass"}
    await apply(server.kube, "/apis/storage.k8s.io/v1/storageclasses/usual", usual)
    said = await asyncio.to_thread(upgrade, server)
    assert "MISSING" not in said
    assert "kubectl apply -f deploy/samples/all-minilm-l6-v2.yaml" in said


async def make_secrets(server: ApiServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the Job does, with nothing but the rights of its ServiceAccount."""
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(await server.token_of("ome-nats-secrets"))
    (folder / "ca.crt").write_bytes(server.authority.read_bytes())
    host, _, port = server.url.removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    settings = first_secrets.Settings(namespace="ome", service_account_dir=folder)
    await first_secrets.main(settings, asyncio.Event())


async def test_secrets_of_nats_are_made_once(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for item in render("nats"):
        if item["metadata"]["name"] == "ome-nats-secrets" and item["kind"] in PLURALS:
            path = f"{PLURALS[item['kind']]}/namespaces/ome/{item['kind'].lower()}s/ome-nats-secrets"
            await apply(server.kube, path, item)
    mine = {"password": base64.b64encode(b"pmine").decode()}
    own: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ome-nats-status"}, "data": mine}
    await apply(server.kube, f"{SECRETS}/ome-nats-status", own)

    await make_secrets(server, tmp_path / "account", monkeypatch)
    first = await secrets(server.kube)
    await make_secrets(server, tmp_path / "account", monkeypatch)

    assert await secrets(server.kube) == first
    assert first["ome-nats-status"] == mine
    assert {name for name in first if name != "ome-nats-issuer"} == {
        f"ome-nats-{user}" for user in ("controller", "status", "gateway", "resolver", "resolvers", "gateway-nodes")
    }
    assert base64.b64decode(first["ome-nats-issuer"]["seed"]).startswith(b"SA")
    assert base64.b64decode(first["ome-nats-issuer"]["public"]).startswith(b"A")

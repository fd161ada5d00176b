"""Installs the services from their charts with helm, as a user would, and makes the Secrets that they name."""

import asyncio
import base64
import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from libs.chassis.errors import Missing
from libs.chassis.kube import KubeClient, Object
from tools.localcluster.kube import apply
from tools.localcluster.kubelet.images import REPOSITORY
from tools.localcluster.natsserver import Identities
from tools.localcluster.programs import Programs

CHARTS = REPOSITORY / "deploy" / "helm"
NAMESPACE = "ome"
CRDS = "crds"
FETCHER = "fetcher"
SERVICES = ("controller", "parser", "status", FETCHER)
_NATS_AUTHORITY = "nats-ca"

Values = Mapping[str, Any]


class InstallFailed(RuntimeError):
    """helm refused; the message is what it said."""


def local_values(nats_url: str, hub_url: str | None, name_address: Callable[[str], str]) -> dict[str, dict[str, Any]]:
    """What differs from the charts' defaults on one machine: addresses, and one replica of everything.

    name_address tells what stands for the name of a Service: callers compare it with the certificate.
    """
    nats = {"url": nats_url, "caSecret": _NATS_AUTHORITY}
    # Those that the examples of the guides name.
    roots = ["/models", "/raid/models", "/opt/models", "/local/models", "/raid/fine-tuned"]
    values: dict[str, dict[str, Any]] = {
        "controller": {
            "replicas": 1,
            "nats": {**nats, "replicas": 1, "bucketBytes": 256 << 20},
            "hfEndpoint": hub_url or "",
            # Stores on this machine speak plain HTTP.
            "credentials": {"insecureHosts": ["127.0.0.1"]},
            "podPolicy": {"modelRoots": roots},
        },
        "parser": {"replicas": 1, "tls": {"extraAddresses": [name_address("ome-parser")]}},
        "fetcher": {
            "nats": nats,
            "hfEndpoint": hub_url or "",
            "resolver": {"replicas": 1},
            "modelRoots": roots,
            # Sources on this machine.
            "egress": {"allow": ["127.0.0.1"]},
            # All nodes lie on the disk of this machine, which may be full of other things.
            "highWatermarkPercent": 100,
            "lowWatermarkPercent": 100,
        },
        "status": {"replicas": 1, "nats": nats, "tls": {"extraAddresses": [name_address("ome-status")]}},
    }
    # Pods are processes of one machine here, with one port 8080 for each of their addresses.
    return {CRDS: {}, **{service: {**_as_here(service), **of_chart} for service, of_chart in values.items()}}


def images_of(chart: str) -> dict[str, str]:
    """The image of ours that each value of a chart names, by the value's path."""
    own = {"image": chart} if chart in ("controller", "fetcher", "parser", "status") else {}
    others = {"controller": {"parserImage": "parser"}, "nats": {"secrets.image": "controller"}}
    return own | others.get(chart, {})


def _as_here(service: str) -> dict[str, Any]:
    return {"listen": "pod", **{value: {"repository": f"ome/{name}"} for value, name in images_of(service).items()}}


def merged(values: Values, overrides: Values) -> dict[str, Any]:
    """`overrides` laid over `values`, key by key, as helm does with several value files."""
    result = dict(values)
    for key, value in overrides.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return result


class Charts:
    def __init__(self, programs: Programs, kubeconfig: Path, folder: Path) -> None:
        self._programs = programs
        self._kubeconfig = kubeconfig
        self._folder = folder

    async def install(self, names: Sequence[str], values: Mapping[str, Values], charts: Path = CHARTS) -> None:
        """Install or upgrade charts, folders of `charts`, as releases of the same names; the CRDs go first."""
        if CRDS in names:
            await self._install(charts / CRDS, values.get(CRDS, {}))
        async with asyncio.TaskGroup() as group:
            for name in names:
                if name != CRDS:
                    group.create_task(self._install(charts / name, values.get(name, {})))

    async def _install(self, chart: Path, values: Values) -> None:
        # helm keeps repositories and plugins of its user there; this one brings none.
        home = self._folder / "helm"
        home.mkdir(exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            self._programs["helm"],
            *("upgrade", "--install", chart.name, chart, "--namespace", NAMESPACE, "--values", "-"),
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(home), "KUBECONFIG": str(self._kubeconfig)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate(json.dumps(values).encode())
        if process.returncode != 0:
            raise InstallFailed(f"helm cannot install {chart.name}:\n{output.decode()}")


async def prepare_namespace(kube: KubeClient, identities: Identities, nats_authority: str) -> None:
    """The namespace of the releases, with what an administrator puts there before: passwords and keys for NATS."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    await apply(kube, f"/api/v1/namespaces/{NAMESPACE}", namespace)
    secrets = {
        **{f"ome-nats-{user}": {"password": password} for user, password in identities.passwords.items()},
        "ome-nats-issuer": {"seed": identities.issuer_seed},
        _NATS_AUTHORITY: {"ca.crt": nats_authority},
    }
    async with asyncio.TaskGroup() as group:
        for name, data in secrets.items():
            group.create_task(apply(kube, f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}", _secret(name, data)))


async def write_certificates(kube: KubeClient, folder: Path) -> None:
    """Give the user of this machine what callers of the services need, as far as it is there.

    That is ome-parser-client-tls/{ca.crt,tls.crt,tls.key} and ome-status-ca/ca.crt.
    """
    for kind, name in (("secrets", "ome-parser-client-tls"), ("configmaps", "ome-status-ca")):
        with contextlib.suppress(Missing):
            found = await kube.get(f"/api/v1/namespaces/{NAMESPACE}/{kind}/{name}")
            (folder / name).mkdir(mode=0o700, exist_ok=True)
            for file, content in found["data"].items():
                data = base64.b64decode(content) if kind == "secrets" else content.encode()
                (folder / name / file).write_bytes(data)


def _secret(name: str, data: Mapping[str, str]) -> Object:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}

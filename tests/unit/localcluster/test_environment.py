import base64
from pathlib import Path
from typing import Any

import pytest

from tools.localcluster.kubelet.environment import (
    MissingReference,
    Mounted,
    Placement,
    container_variables,
    expand,
    path_mapping,
    rewrite_names,
    rewrite_paths,
    service_links,
)

PLACEMENT = Placement(node="node-1", pod_address="127.9.1.2", node_address="127.9.0.1")
POD: dict[str, Any] = {
    "metadata": {"name": "pod-1", "namespace": "ome", "uid": "u-1", "labels": {"app": "x"}},
    "spec": {"nodeName": "node-1", "serviceAccountName": "reader"},
}


class Store:
    def __init__(self, config_maps: dict[str, dict[str, str]], secrets: dict[str, dict[str, str]]) -> None:
        self._config_maps = config_maps
        self._secrets = secrets

    def config_map(self, namespace: str, name: str) -> dict[str, Any] | None:
        return {"data": self._config_maps[name]} if name in self._config_maps else None

    def secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        if name not in self._secrets:
            return None
        return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in self._secrets[name].items()}}


STORE = Store({"settings": {"colour": "blue"}}, {"password": {"password": "hush"}})


def variables(*env: dict[str, Any], env_from: list[dict[str, Any]] | None = None, **links: str) -> dict[str, str]:
    return container_variables(POD, {"env": list(env), "envFrom": env_from or []}, PLACEMENT, STORE, links)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "pod-1"),
        ("metadata.namespace", "ome"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "x"),
        ("metadata.annotations['none']", ""),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "reader"),
        ("status.podIP", "127.9.1.2"),
        ("status.hostIP", "127.9.0.1"),
    ],
)
def test_downward_api_gives_addresses_the_process_can_use(path: str, expected: str) -> None:
    assert variables({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": path}}}) == {"A": expected}


def test_later_sources_win_and_references_see_earlier_variables() -> None:
    found = variables(
        {"name": "colour", "value": "red"},
        {"name": "TEXT", "value": "$(colour) $(LATER) $$(colour)"},
        {"name": "LATER", "value": "x"},
        env_from=[{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "password"}, "prefix": "NATS_"}],
        LINK="here",
    )
    assert found == {
        "LINK": "here",
        "colour": "red",
        "NATS_password": "hush",
        "TEXT": "red $(LATER) $(colour)",
        "LATER": "x",
    }


@pytest.mark.parametrize(
    "reference",
    [
        {"secretKeyRef": {"name": "absent", "key": "password"}},
        {"secretKeyRef": {"name": "password", "key": "absent"}},
        {"configMapKeyRef": {"name": "absent", "key": "colour"}},
        {"fieldRef": {"fieldPath": "spec.absent"}},
        {"resourceFieldRef": {"resource": "limits.cpu"}},
    ],
)
def test_reference_to_what_is_not_there_keeps_the_container_from_starting(reference: dict[str, Any]) -> None:
    with pytest.raises(MissingReference):
        variables({"name": "A", "valueFrom": reference})


def test_optional_reference_may_be_missing() -> None:
    reference = {"secretKeyRef": {"name": "absent", "key": "password", "optional": True}}
    assert variables({"name": "A", "valueFrom": reference}) == {}


def test_unknown_names_and_escapes_survive_expansion() -> None:
    assert expand("$(A)-$(B)-$$(A)-$A", {"A": "1"}) == "1-$(B)-$(A)-$A"


def test_host_path_mounted_below_a_prefix_maps_the_prefix_to_the_nodes_root() -> None:
    volumes = {
        "models": Mounted(Path("/n/root/models"), "/models"),
        "raid": Mounted(Path("/n/root/raid/models"), "/raid/models"),
        "same": Mounted(Path("/n/root/opt"), "/opt"),
        "token": Mounted(Path("/p/volumes/token")),
    }
    mounts = [
        {"name": "models", "mountPath": "/host/models"},
        {"name": "raid", "mountPath": "/host/raid/models"},
        {"name": "same", "mountPath": "/opt"},
        {"name": "token", "mountPath": "/var/run/secrets/nats/"},
        {"name": "token", "mountPath": "/etc/one", "subPath": "token"},
    ]
    assert path_mapping(mounts, volumes, Path("/n/root")) == {
        "/host": "/n/root",
        "/opt": "/n/root/opt",
        "/var/run/secrets/nats": "/p/volumes/token",
        "/etc/one": "/p/volumes/token/token",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/host", "/n/root"),
        ("/host/models", "/n/root/models"),
        ("--root=/host", "--root=/n/root"),
        ("/models,/raid/models", "/models,/raid/models"),
        ("a:/host,/host/x", "a:/n/root,/n/root/x"),
        ("/hosts", "/hosts"),
        ("/other/host", "/other/host"),
        ("http://example.com/host", "http://example.com/host"),
        ("/host/token/x", "/p/token/x"),
    ],
)
def test_paths_are_rewritten_where_a_word_starts_and_the_longest_wins(text: str, expected: str) -> None:
    assert rewrite_paths(text, {"/host": "/n/root", "/host/token": "/p/token"}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ome-parser.ome.svc:9090", "<ome/ome-parser>:9090"),
        ("http://ome-parser.ome.svc.cluster.local/x", "http://<ome/ome-parser>/x"),
        ("https://kubernetes.default.svc", "https://kubernetes.default.svc"),
        ("a.b.svcs", "a.b.svcs"),
        ("x.a.b.svc", "x.a.b.svc"),
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
    ],
)
def test_names_of_services_become_addresses(text: str, expected: str) -> None:
    assert rewrite_names(text, lambda namespace, service: f"<{namespace}/{service}>") == expected


def test_service_links_leave_out_headless_services() -> None:
    services = [
        {"metadata": {"name": "a-b", "namespace": "n"}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}},
        {"metadata": {"name": "c", "namespace": "n"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}},
    ]
    assert service_links(services, lambda namespace, service: f"{namespace}.{service}") == {
        "A_B_SERVICE_HOST": "n.a-b",
        "A_B_SERVICE_PORT": "80",
        "A_B_PORT": "tcp://n.a-b:80",
    }

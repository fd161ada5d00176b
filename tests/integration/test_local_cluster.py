"""The local cluster itself, shown with a tiny service of its own: what holds here holds for ours."""

import base64
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from services.status.page.session import COOKIE
from tools.localcluster.cluster import LocalCluster, PodProcess
from tools.localcluster.kubelet.images import REPOSITORY as ROOT
from tools.localcluster.statefolder import StateFolder

pytestmark = pytest.mark.cluster

NAMESPACE = "default"
IMAGE = "registry.example:5000/test/echo:1"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(
        nodes=2,
        state_dir=tmp_path_factory.mktemp("cluster"),
        hub=False,
        charts=(),
        images={"test/echo": ("python", "-m", "tests.support.echo")},
        node_grace_seconds=8,
    ) as running:
        yield running


def eventually(condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


def workload(kind: str, name: str, container: dict[str, Any], **pod: Any) -> str:
    """A Deployment or DaemonSet of the echo service as JSON."""
    listen = {"name": "LISTEN_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    template = {
        "metadata": {"labels": {"app.kubernetes.io/name": name}},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "echo", "image": IMAGE, **container, "env": [listen, *container.get("env", [])]}],
            **pod,
        },
    }
    labels = {"app.kubernetes.io/name": name}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return json.dumps({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})


def pod_manifest(name: str, container: dict[str, Any], **pod: Any) -> str:
    spec = {"containers": [{"name": "echo", "image": IMAGE, **container}], **pod}
    labels = {"app.kubernetes.io/name": name}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})


def one_pod(cluster: LocalCluster, name: str) -> PodProcess | None:
    found = [pod for pod in cluster.pods(name, namespace=NAMESPACE) if pod.pid is not None]
    return found[0] if len(found) == 1 else None


def ready_pod(cluster: LocalCluster, name: str) -> PodProcess:
    def ready() -> PodProcess | None:
        found = one_pod(cluster, name)
        return found if found and found.ready else None

    found: PodProcess = eventually(ready, f"a ready Pod of {name}")
    return found


def ask(address: str, path: str, method: str = "GET") -> str:
    request = urllib.request.Request(f"http://{address}{path}", method=method)
    with urllib.request.urlopen(request, timeout=5) as response:
        return str(response.read().decode())


def ask_pod(pod: PodProcess, path: str, method: str = "GET") -> str:
    return ask(f"{pod.address}:8080", path, method)


def status_of(cluster: LocalCluster, name: str) -> dict[str, Any]:
    pod = cluster.kubectl("get", "pod", name, "-o", "json", check=False)
    return dict(json.loads(pod)["status"]) if pod.startswith("{") else {}


def container_of(cluster: LocalCluster, name: str) -> dict[str, Any]:
    return dict((status_of(cluster, name).get("containerStatuses") or [{"state": {}}])[0])


READINESS = {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1}
PORTS = [{"name": "http", "containerPort": 8080}]


def test_environment_of_a_pod_is_clean_and_mapped_onto_the_node(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    cluster.kubectl("create", "secret", "generic", "password", "--from-literal=password=hush")
    cluster.kubectl("create", "configmap", "settings", "--from-literal=colour=blue")
    environment = [
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "password", "key": "password"}}},
        {"name": "GREETING", "value": "hello $(POD) $$(POD) $(UNKNOWN)"},
        {"name": "HOST_ROOT", "value": "/host"},
        {"name": "ROOTS", "value": "/models,/raid/models"},
        {"name": "PASSWORD_FILE", "value": "/var/run/secrets/password/password"},
        {"name": "TOKEN_DIR", "value": "/var/run/secrets/kubernetes.io/serviceaccount"},
        {"name": "AUDIENCE_TOKEN", "value": "/var/run/secrets/nats/token"},
        {"name": "PEER", "value": "mirror.default.svc:80"},
    ]
    container = {
        "ports": PORTS,
        "readinessProbe": READINESS,
        "env": environment,
        "envFrom": [{"configMapRef": {"name": "settings"}, "prefix": "SET_"}],
        "volumeMounts": [
            {"name": "models", "mountPath": "/host/models"},
            {"name": "password", "mountPath": "/var/run/secrets/password"},
            {"name": "nats", "mountPath": "/var/run/secrets/nats"},
        ],
    }
    token = {"serviceAccountToken": {"audience": "nats", "expirationSeconds": 3600, "path": "token"}}
    volumes = [
        {"name": "models", "hostPath": {"path": "/models", "type": "DirectoryOrCreate"}},
        {"name": "password", "secret": {"secretName": "password"}},
        {"name": "nats", "projected": {"sources": [token]}},
    ]
    cluster.kubectl("apply", "-f", "-", input=workload("Deployment", "facts", container, volumes=volumes))
    pod = ready_pod(cluster, "facts")
    found = json.loads(ask_pod(pod, "/env"))

    assert (found["NODE"], found["POD"], found["PASSWORD"]) == (pod.node, pod.name, "hush")
    assert found["GREETING"] == f"hello {pod.name} $(POD) $(UNKNOWN)"
    assert found["SET_colour"] == "blue"
    assert found["LISTEN_HOST"] == pod.address
    assert found["HOST_ROOT"] == str(cluster.node_root(pod.node))
    assert found["ROOTS"] == "/models,/raid/models"
    assert (cluster.node_root(pod.node) / "models").is_dir()
    assert found["PEER"] == cluster.service_address("mirror", 80, NAMESPACE)
    assert "SSL_CERT_FILE" not in found
    assert Path(found["PASSWORD_FILE"]).read_text() == "hush"
    assert (Path(found["TOKEN_DIR"]) / "namespace").read_text() == NAMESPACE
    assert "BEGIN CERTIFICATE" in (Path(found["TOKEN_DIR"]) / "ca.crt").read_text()

    claims = json.loads(base64.urlsafe_b64decode(Path(found["AUDIENCE_TOKEN"]).read_text().split(".")[1] + "=="))
    assert claims["aud"] == ["nats"]
    assert claims["kubernetes.io"]["pod"]["name"] == pod.name
    assert claims["kubernetes.io"]["node"]["name"] == pod.node

    cluster.kubectl("patch", "secret", "password", "-p", json.dumps({"stringData": {"password": "rotated"}}))
    eventually(lambda: Path(found["PASSWORD_FILE"]).read_text() == "rotated", "the file follows the Secret")


def test_service_passes_connections_to_ready_pods_only(cluster: LocalCluster) -> None:
    container = {"ports": PORTS, "readinessProbe": READINESS}
    cluster.kubectl("apply", "-f", "-", input=workload("Deployment", "front", container))
    cluster.kubectl("expose", "deployment", "front", "--port=8000", "--target-port=http")
    pod = ready_pod(cluster, "front")
    address = cluster.service_address("front", 8000, NAMESPACE)

    def answers() -> bool:
        try:
            return bool(json.loads(ask(address, "/env"))["HOSTNAME"] == pod.name)
        except OSError:
            # Refused, reset, or taken by a proxy that is about to learn that nobody is ready.
            return False

    eventually(answers, "the Service answers")
    ask_pod(pod, "/ready?is=no", "POST")
    eventually(lambda: not answers(), "the Service refuses while nobody is ready")
    ask_pod(pod, "/ready?is=yes", "POST")
    eventually(answers, "the Service answers again")


def test_liveness_failure_and_crash_restart_the_container(cluster: LocalCluster) -> None:
    liveness = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
    cluster.kubectl(
        "apply", "-f", "-", input=workload("Deployment", "fragile", {"ports": PORTS, "livenessProbe": liveness})
    )
    first = ready_pod(cluster, "fragile")
    eventually(lambda: _listening(first), "it listens")
    ask_pod(first, "/healthy?is=no", "POST")

    def restarted(times: int) -> Callable[[], PodProcess | None]:
        def check() -> PodProcess | None:
            found = one_pod(cluster, "fragile")
            return found if found and found.restarts == times and _listening(found) else None

        return check

    second = eventually(restarted(1), "a restart after the failed probe")
    assert second.pid != first.pid
    assert cluster.kill_pod_process("fragile", namespace=NAMESPACE, number=SIGKILL) == 1
    eventually(restarted(2), "a restart after the crash")
    eventually(lambda: container_of(cluster, second.name).get("restartCount") == 2, "the API knows")
    assert container_of(cluster, second.name)["lastState"]["terminated"]["signal"] == SIGKILL


def _listening(pod: PodProcess) -> bool:
    try:
        return ask_pod(pod, "/healthz") == ""
    except (urllib.error.URLError, ConnectionError):
        return False


def test_pod_that_ignores_sigterm_is_killed_after_its_grace_period(cluster: LocalCluster) -> None:
    manifest = pod_manifest(
        "stubborn",
        {
            "env": [
                {"name": "STUBBORN", "value": "yes"},
                {"name": "LISTEN_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            ],
            "readinessProbe": {"tcpSocket": {"port": 8080}},
        },
        terminationGracePeriodSeconds=1,
    )
    cluster.kubectl("apply", "-f", "-", input=manifest)
    pod = ready_pod(cluster, "stubborn")
    started = time.monotonic()
    cluster.kubectl("delete", "pod", "stubborn", "--wait")
    assert time.monotonic() - started >= 1
    assert "asked to end" in pod.log.read_text()
    assert not Path(f"/proc/{pod.pid}").exists()


def test_kubectl_logs_shows_what_a_container_says(cluster: LocalCluster) -> None:
    manifest = pod_manifest("talker", {"args": ["say", "0", "hello", "there"]}, restartPolicy="Never")
    cluster.kubectl("apply", "-f", "-", input=manifest)
    cluster.kubectl("wait", "pod/talker", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=20s")
    assert cluster.kubectl("logs", "talker") == "hello there\n"
    cluster.kubectl("delete", "pod", "talker", "--wait")


def test_unknown_image_cannot_be_pulled(cluster: LocalCluster) -> None:
    manifest = json.loads(pod_manifest("stranger", {}))
    manifest["spec"]["containers"][0]["image"] = "nginx:latest"
    cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))
    waiting = eventually(
        lambda: container_of(cluster, "stranger")["state"].get("waiting", {}).get("message"), "a reason"
    )
    assert "nginx" in waiting
    assert container_of(cluster, "stranger")["state"]["waiting"]["reason"] == "ErrImagePull"
    cluster.kubectl("delete", "pod", "stranger", "--wait")


def test_job_runs_initializers_first_and_succeeds_or_fails(cluster: LocalCluster) -> None:
    for name, code in (("good", "0"), ("bad", "3")):
        template = json.loads(pod_manifest(name, {"args": ["say", code, "main"]}, restartPolicy="Never"))
        template["spec"]["initContainers"] = [{"name": "first", "image": IMAGE, "args": ["say", "0", "first"]}]
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name},
            "spec": {"backoffLimit": 0, "template": {"metadata": template["metadata"], "spec": template["spec"]}},
        }
        cluster.kubectl("apply", "-f", "-", input=json.dumps(job))
    cluster.kubectl("wait", "job/good", "--for=condition=Complete", "--timeout=20s")
    cluster.kubectl("wait", "job/bad", "--for=condition=Failed", "--timeout=20s")


def test_claim_is_mounted_from_the_nodes_own_folder(cluster: LocalCluster) -> None:
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "data"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "manual",
            "hostPath": {"path": "/srv/data"},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "manual",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    cluster.kubectl(
        "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [volume, claim]})
    )
    container = {
        "ports": PORTS,
        "readinessProbe": READINESS,
        "env": [{"name": "DATA", "value": "/data/model"}],
        "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
    }
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}}]
    cluster.kubectl("apply", "-f", "-", input=workload("Deployment", "reader", container, volumes=volumes))
    pod = ready_pod(cluster, "reader")
    assert json.loads(ask_pod(pod, "/env"))["DATA"] == str(cluster.node_root(pod.node) / "srv/data/model")


def test_grpc_and_exec_probes_are_asked(cluster: LocalCluster) -> None:
    manifest = json.loads(
        pod_manifest(
            "probed",
            {
                "env": [
                    {"name": "OME_LISTEN_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    # Such a probe speaks no TLS.
                    {"name": "OME_GRPC_PLAINTEXT", "value": "true"},
                ],
                "startupProbe": {"exec": {"command": ["true"]}},
                "readinessProbe": {"grpc": {"port": 9090}, "periodSeconds": 1},
                "livenessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 3, "failureThreshold": 1},
            },
        )
    )
    manifest["spec"]["containers"][0]["image"] = "ome/parser:local"
    cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))
    ready_pod(cluster, "probed")
    eventually(lambda: (found := one_pod(cluster, "probed")) and found.restarts > 0, "the failing command restarts it")
    cluster.kubectl("delete", "pod", "probed", "--wait")


def test_new_node_gets_its_daemon_pod_by_itself_and_loses_it_with_the_node(cluster: LocalCluster) -> None:
    cluster.kubectl(
        "apply", "-f", "-", input=workload("DaemonSet", "agent", {"ports": PORTS, "readinessProbe": READINESS})
    )

    def nodes_with_agent() -> set[str]:
        return {pod.node for pod in cluster.pods("agent", namespace=NAMESPACE) if pod.ready}

    eventually(lambda: nodes_with_agent() == {"node-1", "node-2"}, "an agent on both nodes")
    cluster.add_node("node-3.example", {"gpu": "true"})
    eventually(lambda: "node-3.example" in nodes_with_agent(), "an agent on the new node")
    assert "node-3.example" in cluster.kubectl("get", "nodes", "-l", "gpu=true", "-o", "name")

    cluster.stop_node("node-3.example")
    assert nodes_with_agent() == {"node-1", "node-2"}
    cluster.kubectl("wait", "node/node-3.example", "--for=condition=Ready=Unknown", "--timeout=30s")
    cluster.add_node("node-3.example", {"gpu": "true"})
    cluster.kubectl("wait", "node/node-3.example", "--for=condition=Ready", "--timeout=30s")
    eventually(lambda: "node-3.example" in nodes_with_agent(), "the agent is back with its node")

    cluster.remove_node("node-3.example")
    assert "node-3.example" not in cluster.kubectl("get", "nodes", "-o", "name")
    cluster.kubectl("delete", "daemonset", "agent", "--wait")


def test_pods_outlive_the_death_of_api_server_and_nats(cluster: LocalCluster) -> None:
    cluster.kubectl(
        "apply", "-f", "-", input=workload("Deployment", "steady", {"ports": PORTS, "readinessProbe": READINESS})
    )
    before = ready_pod(cluster, "steady")
    killed = {program: cluster.pid(program) for program in ("apiserver", "nats", "etcd")}
    for program in killed:
        cluster.kill(program)
        assert cluster.pid(program) is None
    assert json.loads(ask_pod(before, "/env"))["HOSTNAME"] == before.name
    for program in ("etcd", "apiserver", "nats"):
        cluster.restart(program)
        assert cluster.pid(program) not in (None, killed[program])
    cluster.kubectl("rollout", "restart", "deployment/steady")
    cluster.kubectl("rollout", "status", "deployment/steady", "--timeout=30s")
    after = eventually(lambda: one_pod(cluster, "steady"), "one Pod is left")
    assert after.name != before.name


def test_nothing_runs_after_a_stop(tmp_path: Path) -> None:
    with LocalCluster(nodes=1, state_dir=tmp_path / "state", hub=False, charts=()) as cluster:
        assert (tmp_path / "state").stat().st_mode & 0o077 == 0
        pids = [
            cluster.pid(name) for name in ("etcd", "apiserver", "kube-scheduler", "kube-controller-manager", "nats")
        ]
        assert None not in pids
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


HARNESS = """
import signal, sys
from pathlib import Path
from tools.localcluster.cluster import LocalCluster
cluster = LocalCluster(nodes=1, state_dir=Path(sys.argv[1]), hub=False, charts=()).start()
print("up", flush=True)
signal.pause()
"""


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes that were started for a cluster's folder."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in lines if str(folder) in line]


def test_nothing_outlives_a_harness_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    harness = subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    with harness:
        assert harness.stdout is not None
        assert harness.stdout.readline() == "up\n"
        assert len(processes_of(folder)) > 4
        harness.kill()
    eventually(lambda: not processes_of(folder), "every server is gone")


def test_command_line_starts_a_cluster_that_others_can_join_and_stops_it(tmp_path: Path) -> None:
    folder = tmp_path / "state"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tools.localcluster", *arguments, "--state-dir", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert run("status").returncode == 1
    started = run("up", "--detach", "--no-demo", "--nodes", "1")
    try:
        assert started.returncode == 0, started.stderr
        env = StateFolder(folder).read_env() or {}
        wanted = {"KUBECONFIG", "NATS_URL", "STATUS_ADDR", "PARSER_ADDR", "HF_ENDPOINT", "NODES", "NODE_ROOT_1"}
        wanted |= {"STATUS_CA", "STATUS_PAGE", "STATUS_TOKEN", "PARSER_TLS_DIR"}
        assert env.keys() >= wanted
        assert (env["NODES"], Path(env["NODE_ROOT_1"]).is_dir()) == ("node-1", True)
        for service in ("STATUS_ADDR", "PARSER_ADDR"):
            host, _, port = env[service].partition(":")
            socket.create_connection((host, int(port)), timeout=5).close()
        assert f"Its page is {env['STATUS_PAGE']}" in started.stdout
        asked = urllib.request.Request(
            f"{env['STATUS_PAGE']}/nodes", headers={"Cookie": f"{COOKIE}={env['STATUS_TOKEN']}"}
        )
        trusting = ssl.create_default_context(cafile=env["STATUS_CA"])

        def node_is_shown() -> bool:
            with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(asked, context=trusting) as page:
                return b"/nodes/node-1" in page.read()
            return False

        eventually(node_is_shown, "the page shows the node to the token of the environment")
        assert "ome-fetcher" in run("status").stdout
        assert run("up", "--detach", "--no-demo").returncode == 1
    finally:
        stopped = run("down")
    assert stopped.returncode == 0
    eventually(lambda: not processes_of(folder), "the process that ran the cluster has ended too")
    assert run("down").returncode == 0

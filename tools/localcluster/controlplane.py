"""How etcd, kube-apiserver, kube-controller-manager and kube-scheduler are configured and found ready."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from libs.chassis.errors import ServiceError
from tools.localcluster.addresses import AddressPlan, free_port
from tools.localcluster.certificates import Authority, KeyPair, write_signing_key
from tools.localcluster.daemon import Daemon
from tools.localcluster.kube import connected_kube
from tools.localcluster.programs import Programs

# Metadata of every request, once it is complete: enough to count requests by identity, verb and resource.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata"}],
}

_EVICTION_SECONDS = 10
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Files:
    """Everything the control plane reads, the key pairs of those who use it, and who issues more of them."""

    folder: Path
    authority: Path
    issuer: Authority
    server: KeyPair
    nats: KeyPair
    admin: KeyPair
    kubelet: KeyPair
    controller_manager: KeyPair
    scheduler: KeyPair
    service_accounts: KeyPair
    audit_policy: Path
    audit_log: Path


def write_files(folder: Path, plan: AddressPlan, address: str = _LOOPBACK) -> Files:
    """Make all keys and static files of a new cluster, whose API server is at `address`."""
    keys = folder / "keys"
    keys.mkdir(mode=0o700)
    authority = Authority(keys)
    hosts = (
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    )
    audit_policy = folder / "audit-policy.yaml"
    audit_policy.write_text(json.dumps(_AUDIT_POLICY))
    return Files(
        folder=folder,
        authority=authority.certificate,
        issuer=authority,
        server=authority.issue_server("kube-apiserver", hosts, (address, f"10.{plan.number}.128.1")),
        nats=authority.issue_server("nats-server", ("localhost",), ("127.0.0.1",)),
        admin=authority.issue_client("admin", "system:masters"),
        # One process stands in for the kubelets of all nodes, so it cannot be one of the node identities.
        kubelet=authority.issue_client("localcluster-kubelets", "system:masters"),
        controller_manager=authority.issue_client("system:kube-controller-manager"),
        scheduler=authority.issue_client("system:kube-scheduler"),
        service_accounts=write_signing_key(keys, "service-accounts"),
        audit_policy=audit_policy,
        audit_log=folder / "logs" / "audit.log",
    )


class ControlPlane:
    """The four servers and their addresses; it decides no order of starting.

    The API server is at `address`. If that is no loopback address, Pods and kubelets in network namespaces of their own
    reach it: Endpoints tell of it, and it looks for kubelets at the addresses of their nodes.
    """

    def __init__(
        self,
        programs: Programs,
        files: Files,
        plan: AddressPlan,
        node_grace_seconds: float,
        address: str = _LOOPBACK,
    ) -> None:
        self._programs = programs
        self._files = files
        self._plan = plan
        self._node_grace_seconds = node_grace_seconds
        self._address = address
        self._etcd_port = 0
        self.port = 0
        environ = {"PATH": "/usr/bin:/bin", "HOME": str(files.folder)}
        self.etcd = Daemon("etcd", self._etcd, self._etcd_listens, folder=files.folder, environ=environ)
        self.apiserver = Daemon(
            "kube-apiserver", self._apiserver, self._apiserver_ready, folder=files.folder, environ=environ
        )
        self.controller_manager = Daemon(
            "kube-controller-manager",
            self._controller_manager,
            self._controllers_work,
            folder=files.folder,
            environ=environ,
        )
        self.scheduler = Daemon("kube-scheduler", self._scheduler, _at_once, folder=files.folder, environ=environ)

    @property
    def url(self) -> str:
        return f"https://{self._address}:{self.port}"

    def write_kubeconfig(self, path: Path, client: KeyPair) -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "local", "cluster": {"server": self.url, "certificate-authority": str(self._files.authority)}}
            ],
            "users": [
                {
                    "name": "local",
                    "user": {"client-certificate": str(client.certificate), "client-key": str(client.key)},
                }
            ],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local"}}],
            "current-context": "local",
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=1))
        return path

    def _etcd(self) -> list[str]:
        self._etcd_port, peer_port = free_port(), free_port()
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{peer_port}"
        return [
            str(self._programs["etcd"]),
            f"--data-dir={self._files.folder / 'etcd'}",
            # It holds test data only, and would otherwise wait for the disk at each write.
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=warn",
        ]

    async def _etcd_listens(self) -> bool:
        return await listens(self._etcd_port)

    def _apiserver(self) -> list[str]:
        self.port = free_port()
        files = self._files
        issuer = "https://kubernetes.default.svc.cluster.local"
        on_loopback = self._address == _LOOPBACK
        return [
            str(self._programs["kube-apiserver"]),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--bind-address={self._address}",
            f"--advertise-address={self._address}",
            f"--secure-port={self.port}",
            f"--tls-cert-file={files.server.certificate}",
            f"--tls-private-key-file={files.server.key}",
            f"--client-ca-file={files.authority}",
            f"--kubelet-client-certificate={files.admin.certificate}",
            f"--kubelet-client-key={files.admin.key}",
            # For `kubectl logs`: on loopback, nodes can be reached only at the twin of their address.
            f"--kubelet-preferred-address-types={'ExternalIP' if on_loopback else 'InternalIP'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--service-account-key-file={files.service_accounts.certificate}",
            f"--service-account-signing-key-file={files.service_accounts.key}",
            f"--service-account-issuer={issuer}",
            f"--service-cluster-ip-range={self._plan.service_range}",
            # Nobody can be told of an API server at a loopback address through Endpoints; Pods get it from their
            # environment.
            f"--endpoint-reconciler-type={'none' if on_loopback else 'lease'}",
            # The usual five minutes, for which Pods stay bound to a node that died, are longer than any test.
            f"--default-not-ready-toleration-seconds={_EVICTION_SECONDS}",
            f"--default-unreachable-toleration-seconds={_EVICTION_SECONDS}",
            f"--audit-policy-file={files.audit_policy}",
            f"--audit-log-path={files.audit_log}",
        ]

    async def _apiserver_ready(self) -> bool:
        if not await listens(self.port, self._address):
            return False
        async with connected_kube(self.url, self._files.authority, self._files.admin) as kube:
            return await kube.is_ready()

    def _controller_manager(self) -> list[str]:
        files = self._files
        kubeconfig = self.write_kubeconfig(files.folder / "controller-manager.kubeconfig", files.controller_manager)
        return [
            str(self._programs["kube-controller-manager"]),
            f"--kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
            "--use-service-account-credentials",
            f"--root-ca-file={files.authority}",
            f"--service-account-private-key-file={files.service_accounts.key}",
            f"--node-monitor-grace-period={self._node_grace_seconds}s",
            f"--node-monitor-period={self._node_grace_seconds / 8}s",
            # A claim that is created before its volume is bound at the next of these rounds, by default 15 s apart.
            "--pvclaimbinder-sync-period=2s",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ]

    async def _controllers_work(self) -> bool:
        """It serves no port; that the default ServiceAccount exists, without which no Pod is admitted, is its work."""
        try:
            async with connected_kube(self.url, self._files.authority, self._files.admin) as kube:
                await kube.get("/api/v1/namespaces/default/serviceaccounts/default")
        except ServiceError:
            return False
        return True

    def _scheduler(self) -> list[str]:
        files = self._files
        kubeconfig = self.write_kubeconfig(files.folder / "scheduler.kubeconfig", files.scheduler)
        return [
            str(self._programs["kube-scheduler"]),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
        ]


async def listens(port: int, address: str = _LOOPBACK) -> bool:
    try:
        _, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.close()
    return True


async def _at_once() -> bool:
    return True

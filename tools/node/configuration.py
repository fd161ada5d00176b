"""What the programs of a node and its cluster read: pure, and the one place that knows addresses and paths.

Paths are those inside the node, whose own root file system is private to it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# The variable by which `python -m tools.node` tells that this is a machine of its own, and which.
RUN = "OME_NODES"
# Addresses of the machine that all nodes share a network with: of the API server, and of sources of models, which Pods
# may reach that must not reach the other.
MACHINE = "10.99.0.1"
SOURCES = "10.99.0.2"
# Networks of Services, Pods and nodes.
CLUSTER_RANGES = ("10.1.128.0/18", "10.200.0.0/16", "10.99.0.0/24")
PAUSE_IMAGE = "localhost/pause:1"
SOCKET = "/run/containerd/containerd.sock"
# With which ctr speaks to the node's containerd of the kubelet's images.
CTR_OPTIONS = ("--address", SOCKET, "--namespace", "k8s.io")
KUBELET_FOLDER = "/var/lib/kubelet"
CLUSTER_DOMAIN = "cluster.local"
# The kubelet ends when it cannot have these values. The machine keeps its own, so the node sees files with the
# kubelet's values in their place.
SYSCTLS = {"kernel/panic": "10", "kernel/panic_on_oops": "1", "vm/overcommit_memory": "1"}
CGROUPS = ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids")
_EVICTION_SIGNALS = (
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
)
_PLUGINS_WITHOUT_USE = (
    "io.containerd.internal.v1.opt",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.nri.v1.nri",
)


@dataclass(frozen=True)
class NodePlan:
    """A node: its number from 1 on, and where it finds what it shares with the machine."""

    name: str
    number: int
    run: str
    folder: str
    programs: Mapping[str, str]
    userland: str
    archives: tuple[str, ...]
    authority: str
    kubeconfig: str
    proxy_kubeconfig: str
    dns_address: str

    @property
    def address(self) -> str:
        return f"10.99.0.{10 + self.number}"

    @property
    def pod_range(self) -> str:
        return f"10.200.{self.number}.0/24"

    @property
    def network_namespace(self) -> str:
        return f"/run/netns/{self.name}"

    @property
    def cgroup(self) -> str:
        """Below every hierarchy; `run` keeps clusters that run at the same time apart."""
        return f"/ome-{self.run}-{self.name}"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "NodePlan":
        fields = json.loads(text)
        return cls(**{**fields, "archives": tuple(fields["archives"])})


def kubelet(plan: NodePlan) -> dict[str, Any]:
    """KubeletConfiguration: containers in cgroup v1, no eviction by the machine's disk, no firewall of its own."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "address": plan.address,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": plan.authority},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": plan.cgroup,
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "localStorageCapacityIsolation": False,
        # A namespace without CAP_SYS_RESOURCE cannot make a process less likely to be killed.
        "oomScoreAdj": 0,
        "clusterDNS": [plan.dns_address],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": "/run/resolv.conf",
        "imageGCHighThresholdPercent": 100,
        "evictionHard": dict.fromkeys(_EVICTION_SIGNALS, "0%"),
        # Tests restart containers and nodes: what is noticed late only makes them long.
        "nodeStatusUpdateFrequency": "4s",
        "nodeStatusReportFrequency": "30s",
        "crashLoopBackOff": {"maxContainerRestartPeriod": "5s"},
        "shutdownGracePeriod": "0s",
    }


def containerd(plan: NodePlan) -> str:
    """containerd's configuration: overlayfs, runc, our pause image."""
    disabled = ", ".join(f"'{name}'" for name in _PLUGINS_WITHOUT_USE)
    return f"""version = 3
root = '/var/lib/containerd'
state = '/run/containerd'
disabled_plugins = [{disabled}]
[grpc]
  address = '{SOCKET}'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{PAUSE_IMAGE}'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  enable_unprivileged_ports = false
  enable_unprivileged_icmp = false
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['{plan.folder}/bin']
  conf_dir = '/etc-of-node/cni'
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'runc'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = '{plan.userland}/runc'
  SystemdCgroup = false
"""


def network(plan: NodePlan) -> dict[str, Any]:
    """The CNI configuration: a bridge for the Pods of the node, which routes to the other nodes."""
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni",
        "ranges": [[{"subnet": plan.pod_range}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": addresses,
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def kubelet_command(plan: NodePlan) -> list[str]:
    return [
        plan.programs["kubelet"],
        "--config=/etc-of-node/kubelet.json",
        f"--kubeconfig={plan.kubeconfig}",
        f"--root-dir={KUBELET_FOLDER}",
        f"--cert-dir={KUBELET_FOLDER}/pki",
        f"--hostname-override={plan.name}",
        f"--node-ip={plan.address}",
    ]


def kube_proxy_command(plan: NodePlan) -> list[str]:
    return [
        plan.programs["kube-proxy"],
        "--proxy-mode=nftables",
        f"--kubeconfig={plan.proxy_kubeconfig}",
        f"--hostname-override={plan.name}",
        "--cluster-cidr=10.200.0.0/16",
        # Both are sysctls of the machine.
        "--conntrack-max-per-core=0",
        "--conntrack-min=0",
    ]


def names(dns_address: str) -> list[dict[str, Any]]:
    """CoreDNS with what it needs to tell the addresses of Services, and nothing else."""
    labels = {"k8s-app": "kube-dns"}
    corefile = f".:53 {{\n  errors\n  health\n  ready\n  kubernetes {CLUSTER_DOMAIN} in-addr.arpa\n}}\n"
    system = {"namespace": "kube-system"}
    container = {
        "name": "coredns",
        "image": "localhost/coredns:1",
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "volumeMounts": [{"name": "configuration", "mountPath": "/etc/coredns"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        },
    }
    reads = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "coredns", **system}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "coredns"},
            "rules": reads,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "coredns"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "coredns"},
            "subjects": [{"kind": "ServiceAccount", "name": "coredns", **system}],
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "coredns", **system},
            "data": {"Corefile": corefile},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", **system},
            "spec": {
                "selector": labels,
                "clusterIP": dns_address,
                "ports": [
                    {"name": name, "port": 53, "protocol": protocol}
                    for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP"))
                ],
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "coredns", **system},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "serviceAccountName": "coredns",
                        "dnsPolicy": "Default",
                        "containers": [container],
                        "volumes": [{"name": "configuration", "configMap": {"name": "coredns"}}],
                    },
                },
            },
        },
    ]


def disk(name: str, node: str, path: str, size: str = "16Gi") -> list[dict[str, Any]]:
    """A volume in a folder of a node, of the StorageClass that is the cluster's default."""
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "disk",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "disk",
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        },
    }
    return [storage_class, volume]

"""The programs of a node beside those of the control plane: what kubelets, containers and names need.

runc and nft are not among them: their builds need a C compiler and libraries' headers, so `userland` has them from
Debian.
"""

from tools.localcluster.programs import Program, kubernetes

_CONTAINERD = "github.com/containerd/containerd/v2"
_CNI = "github.com/containernetworking/plugins"


def _containerd(name: str, build_seconds: int) -> Program:
    return Program(
        name=name,
        folder="containerd",
        module=_CONTAINERD,
        package=f"{_CONTAINERD}/cmd/{name}",
        # Another version would want another configuration.
        version_arguments=(),
        minors_older=0,
        minors_newer=0,
        build_seconds=build_seconds,
        version_variables=f"{_CONTAINERD}/version.Version={{version}}",
        # Without these, C libraries of file systems that no node here has would be needed.
        tags="no_btrfs no_devmapper no_zfs osusergo netgo",
    )


def _plugin(name: str, folder: str) -> Program:
    return Program(
        name=name,
        folder="cni",
        module=_CNI,
        package=f"{_CNI}/plugins/{folder}/{name}",
        version_arguments=(),
        minors_older=0,
        minors_newer=0,
        build_seconds=5,
    )


NODE_PROGRAMS: tuple[Program, ...] = (
    kubernetes("kubelet", 0, 0, 20),
    kubernetes("kube-proxy", 0, 0, 10),
    _containerd("containerd", 60),
    _containerd("containerd-shim-runc-v2", 10),
    _containerd("ctr", 10),
    Program(
        name="pause",
        folder="containerd",
        module=_CONTAINERD,
        package="./pause",
        version_arguments=(),
        minors_older=0,
        minors_newer=0,
        build_seconds=1,
    ),
    _plugin("bridge", "main"),
    _plugin("host-local", "ipam"),
    _plugin("loopback", "main"),
    Program(
        name="coredns",
        folder="coredns",
        module="github.com/coredns/coredns",
        package=".",
        version_arguments=(),
        minors_older=0,
        minors_newer=0,
        build_seconds=60,
    ),
)

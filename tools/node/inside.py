"""The first process of a node, in namespaces of its own: makes the node's root, starts its programs and keeps them up.

`cluster` starts `python -m tools.node.inside PLAN`. It ends when it is killed, and everything on the node with it, as
in a power failure.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tools.node import configuration
from tools.node.configuration import CGROUPS, SYSCTLS, NodePlan

# Of the machine's folders, those that the node has as its own, or has no use for.
_OWN = ("boot", "lost+found", "media", "mnt", "opt", "proc", "run", "srv", "sys", "var")
_RESTART_SECONDS = 0.5
_CONTAINERD_SECONDS = 60.0


def main(plan: NodePlan) -> None:
    _make_root(Path(plan.folder) / "root", plan)
    _write_files(plan)
    os.environ["PATH"] = f"{plan.folder}/bin:{plan.userland}:{os.environ['PATH']}"
    containerd = [plan.programs["containerd"], "--config=/etc-of-node/containerd.toml"]
    keeper = _Keeper(Path(plan.folder) / "logs")
    keeper.start("containerd", containerd)
    _import(plan)
    keeper.start("kubelet", configuration.kubelet_command(plan))
    keeper.start("kube-proxy", configuration.kube_proxy_command(plan))
    keeper.keep()


def _make_root(root: Path, plan: NodePlan) -> None:
    """Make `root` the root: the machine's programs and libraries, and apart from them an empty disk."""
    root.mkdir(exist_ok=True)
    _run("mount", "--bind", str(root), str(root))
    for entry in sorted(Path("/").iterdir()):
        inner = root / entry.name
        if entry.name in _OWN:
            continue
        if entry.is_symlink():
            inner.unlink(missing_ok=True)
            inner.symlink_to(entry.readlink())
        elif entry.is_dir():
            inner.mkdir(exist_ok=True)
            _run("mount", "--rbind", str(entry), str(inner))
    for name in ("proc", "sys", "run", "var/lib", "var/log", "var/tmp", "etc-of-node", "opt", "mnt", ".machine"):
        (root / name).mkdir(parents=True, exist_ok=True)
    # The folder of the cluster may lie in what the node has as its own.
    (root / plan.folder.lstrip("/")).parent.parent.mkdir(parents=True, exist_ok=True)
    shared = str(Path(plan.folder).parent.parent)
    (root / shared.lstrip("/")).mkdir(parents=True, exist_ok=True)
    _run("mount", "--bind", shared, f"{root}{shared}")
    _run("mount", "-t", "proc", "proc", f"{root}/proc")
    _run("mount", "-t", "sysfs", "sysfs", f"{root}/sys")
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", f"{root}/run")
    os.chdir(root)
    _run("pivot_root", ".", ".machine")
    os.chdir("/")
    _run("umount", "--lazy", "/.machine")
    Path("/.machine").rmdir()
    _mount_sysctls()
    _mount_cgroups(plan)
    _run("mount", "--make-rshared", "/")


def _mount_sysctls() -> None:
    """Let programs of the node set what is the network namespace's, and nothing of the machine."""
    second = Path("/run/second-proc")
    second.mkdir()
    _run("mount", "-t", "proc", "proc", str(second))
    _run("mount", "--bind", "/proc/sys", "/proc/sys")
    _run("mount", "-o", "remount,bind,ro", "/proc/sys")
    _run("mount", "--bind", f"{second}/sys/net", "/proc/sys/net")
    _run("umount", str(second))
    shown = Path("/run/sysctls")
    shown.mkdir()
    for name, value in SYSCTLS.items():
        file = shown / name.replace("/", "_")
        file.write_text(f"{value}\n")
        _run("mount", "--bind", str(file), f"/proc/sys/{name}")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    bridge = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if bridge.exists():
        # What Pods of one node send each other passes its firewall: translation of Services, and NetworkPolicies.
        bridge.write_text("1")


def _mount_cgroups(plan: NodePlan) -> None:
    _run("mount", "-t", "tmpfs", "tmpfs", "/sys/fs/cgroup")
    hierarchies = {name: name for name in CGROUPS} | {"systemd": "none,name=systemd"}
    for name, options in hierarchies.items():
        folder = Path("/sys/fs/cgroup") / name
        folder.mkdir()
        _run("mount", "-t", "cgroup", "-o", options, "cgroup", str(folder))
        own = Path(f"{folder}{plan.cgroup}")
        own.mkdir(exist_ok=True)
        if name == "cpuset":
            # A new one has no processor and no memory.
            for file in ("cpuset.cpus", "cpuset.mems"):
                (own / file).write_text((folder / file).read_text())


def _write_files(plan: NodePlan) -> None:
    folder = Path("/etc-of-node")
    (folder / "cni").mkdir(exist_ok=True)
    (folder / "cni" / "10-pods.conflist").write_text(json.dumps(configuration.network(plan)))
    (folder / "kubelet.json").write_text(json.dumps(configuration.kubelet(plan)))
    (folder / "containerd.toml").write_text(configuration.containerd(plan))
    Path("/run/resolv.conf").write_text(f"nameserver {configuration.MACHINE}\n")
    links = Path(plan.folder) / "bin"
    links.mkdir(exist_ok=True)
    for name, path in plan.programs.items():
        link = links / name
        link.unlink(missing_ok=True)
        link.symlink_to(path)


def _import(plan: NodePlan) -> None:
    """Give containerd the images, once it answers."""
    client = [plan.programs["ctr"], *configuration.CTR_OPTIONS]
    deadline = time.monotonic() + _CONTAINERD_SECONDS
    while subprocess.run([*client, "version"], capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            raise TimeoutError("containerd does not answer")
        time.sleep(0.1)
    present = subprocess.run([*client, "images", "list", "--quiet"], capture_output=True, text=True, check=True).stdout
    if configuration.PAUSE_IMAGE in present:
        return
    for archive in plan.archives:
        _run(*client, "images", "import", archive)


class _Keeper:
    """What a service manager does on a node: starts programs again that ended, and reaps what nobody waits for."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[int, tuple[str, list[str], subprocess.Popen[bytes]]] = {}
        logs.mkdir(exist_ok=True)

    def start(self, name: str, command: list[str]) -> None:
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._running[process.pid] = (name, command, process)

    def keep(self) -> None:
        """Does not return."""
        while True:
            pid, status = os.wait()
            if pid in self._running:
                name, command, process = self._running.pop(pid)
                process.returncode = os.waitstatus_to_exitcode(status)
                time.sleep(_RESTART_SECONDS)
                self.start(name, command)


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


if __name__ == "__main__":
    main(NodePlan.from_json(Path(sys.argv[1]).read_text()))

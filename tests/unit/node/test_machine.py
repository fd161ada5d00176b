"""What a machine must have for real nodes, and which programs they run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools.images import debian
from tools.localcluster.programs import Program, locate, pin_of
from tools.node import configuration, userland
from tools.node.__main__ import hierarchies
from tools.node.configuration import NodePlan
from tools.node.programs import NODE_PROGRAMS

PLAN = NodePlan(
    "node-1", 1, "7", "/state", {}, "/userland", (), "/ca.crt", "/kubeconfig", "/proxy.kubeconfig", "10.1.128.10"
)


def test_controllers_of_version_1_have_a_hierarchy() -> None:
    table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t0\t57\t1\n"
    assert hierarchies(table) == {"cpu": 1, "memory": 0}
    assert hierarchies("") == {}


@pytest.mark.parametrize("program", NODE_PROGRAMS, ids=lambda program: program.name)
def test_version_is_pinned(program: Program) -> None:
    assert pin_of(program).major >= 1


def test_containerd_of_the_machine_is_not_taken(tmp_path: Path) -> None:
    [containerd] = [program for program in NODE_PROGRAMS if program.name == "containerd"]
    found = tmp_path / "containerd"
    found.write_text(f"#!/bin/sh\necho containerd {pin_of(containerd)}\n")
    found.chmod(0o755)
    environ = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path)}
    assert locate(containerd, environ) is None


def test_every_program_that_a_configuration_names_is_built() -> None:
    [bridge] = configuration.network(PLAN)["plugins"]
    named = {bridge["type"], bridge["ipam"]["type"], "kubelet", "kube-proxy"}
    assert named <= {program.name for program in NODE_PROGRAMS}


def test_packages_of_the_node_are_pinned() -> None:
    locked = debian.read_lock(userland.LOCK.read_text())
    assert tuple(package.name for package in locked) == userland.PACKAGES


def test_no_control_group_is_left_when_a_run_is_terminated_or_an_earlier_one_was_killed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / "memory" / f"ome-{ended.pid}-node-1" / "kubepods").mkdir(parents=True)
    script = (
        "import sys; from pathlib import Path; from tools.node.__main__ import run_apart\n"
        "sys.exit(run_apart(sys.argv[2:], Path(sys.argv[1])))"
    )
    makes = f"mkdir -p {tmp_path}/memory/ome-$OME_NODES-node-1/kubepods && echo made && exec sleep 600"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), "sh", "-c", makes], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        assert [folder.name for folder in (tmp_path / "memory").iterdir()] == [f"ome-{process.pid}-node-1"]

        process.terminate()

        assert process.wait(timeout=30) == 256 - signal.SIGKILL
    assert list((tmp_path / "memory").iterdir()) == []

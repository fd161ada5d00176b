"""`python -m tools.node COMMAND...`: runs a command in a machine of its own, in which NodeCluster can start.

Everything that comes from outside (programs, packages, images) is got before. The command has network, mounts,
processes and control groups of its own; when it ends or is killed, so does everything that it started.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tools.images.debian import PackagesUnavailable
from tools.localcluster.builds import Builder, BuildFailed
from tools.localcluster.programs import PROGRAMS, Programs, cache_folder, obtain
from tools.node import archives, earlier, userland
from tools.node.configuration import CGROUPS, RUN
from tools.node.programs import NODE_PROGRAMS

_NAMESPACES = ("--mount", "--cgroup", "--pid", "--uts", "--ipc", "--net", "--fork", "--kill-child", "--mount-proc")
_END_SECONDS = 10.0
_TOOLS = ("unshare", "nsenter", "mount", "umount", "pivot_root", "ip", "nice")


def main(command: list[str]) -> int:
    if obstacle := what_is_missing():
        print(f"Skipped: real nodes need {obstacle}.", file=sys.stderr)
        return 0
    try:
        programs()
        userland.obtain(cache_folder(os.environ))
        archives.build_services(_announce)
        earlier.build(_announce)
    except (BuildFailed, PackagesUnavailable, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return run_apart(["unshare", *_NAMESPACES, "--propagation", "private", *command])


def run_apart(command: list[str], cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """The exit code of a command that makes control groups, of which none is left when it ends or this is terminated.

    Those of earlier runs that were killed go as well.
    """
    for run in {folder.name.split("-")[1] for folder in _cgroups("*", cgroups)}:
        if not Path(f"/proc/{run}").exists():
            _remove_cgroups(run, cgroups)
    run = f"{os.getpid()}"
    process: subprocess.Popen[bytes] | None = None
    terminated = False

    def terminate(*_: object) -> None:
        nonlocal terminated
        terminated = True
        if process:
            process.kill()

    # SIGTERM alone would end this process without what comes after the command. It may come as soon as that has begun.
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with subprocess.Popen(command, env={**os.environ, RUN: run}) as process:
            try:
                if terminated:
                    process.kill()
                return process.wait()
            finally:
                process.kill()
                process.wait()
                _remove_cgroups(run, cgroups)
    finally:
        signal.signal(signal.SIGTERM, before)


def _announce(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def programs() -> Programs:
    """Those of the control plane and of nodes; builds the missing ones."""
    return obtain(Builder(os.environ).build, os.environ, (*PROGRAMS, *NODE_PROGRAMS))


def what_is_missing() -> str:
    """What keeps real nodes from running here, as the end of a sentence; empty when nothing does."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "Linux on x86_64"
    if os.geteuid() != 0:
        return "root"
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"the programs {', '.join(missing)} of util-linux and iproute2"
    table = Path("/proc/cgroups")
    mounted = hierarchies(table.read_text() if table.exists() else "")
    if absent := [name for name in CGROUPS if not mounted.get(name)]:
        return f"control groups of version 1, and {', '.join(absent)} are not there"
    tried = subprocess.run(["unshare", *_NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return f"namespaces, and unshare says: {tried.stderr.strip()}" if tried.returncode else ""


def hierarchies(table: str) -> dict[str, int]:
    """The hierarchy of version 1 that each controller is in, by the text of /proc/cgroups; 0 when it is in none."""
    rows = (line.split() for line in table.splitlines() if not line.startswith("#"))
    return {name: int(number) for name, number, *_ in rows}


def _cgroups(run: str, cgroups: Path) -> list[Path]:
    return list(cgroups.glob(f"**/ome-{run}-*"))


def _remove_cgroups(run: str, cgroups: Path) -> None:
    """The folders of control groups outlive their processes, which may still be about to end."""
    deadline = time.monotonic() + _END_SECONDS
    for found in _cgroups(run, cgroups):
        for folder in sorted((found, *(path for path in found.rglob("*") if path.is_dir())), reverse=True):
            while not _removed(folder):
                if time.monotonic() > deadline:
                    print(f"Processes of the nodes are left in {folder}.", file=sys.stderr)
                    return
                time.sleep(0.05)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

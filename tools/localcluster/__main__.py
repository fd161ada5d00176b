"""`python -m tools.localcluster up | down | status | programs`: the cluster from the command line."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from tools.localcluster.assembly import NotReady
from tools.localcluster.builds import Builder, BuildFailed
from tools.localcluster.charts import InstallFailed
from tools.localcluster.cluster import LocalCluster
from tools.localcluster.daemon import StartFailed
from tools.localcluster.demo import Demo, DemoFailed
from tools.localcluster.hub import hub_sentence
from tools.localcluster.programs import obtain
from tools.localcluster.reminder import Reminder
from tools.localcluster.statefolder import FolderInUse, StateFolder, default_folder
from tools.localcluster.status_client import AUDIENCE, NAMESPACE, READER

_STOP_SECONDS = 60.0
# What a shell reports of a program that Ctrl-C has ended.
_INTERRUPTED = 130
_FAILURES = (BuildFailed, DemoFailed, FolderInUse, InstallFailed, NotReady, StartFailed)


def main() -> int:
    arguments = _parser().parse_args()
    console = Console()
    try:
        return int(arguments.command(arguments, console))
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return _INTERRUPTED
    except _FAILURES as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.localcluster", description="A whole cluster on this machine."
    )
    commands = parser.add_subparsers(required=True)

    up = commands.add_parser("up", help="start a cluster, bring the sample models to Ready, and stay until Ctrl-C")
    up.add_argument("--nodes", type=_positive, default=3, help="number of nodes, at least 1 (3)")
    up.add_argument("--detach", action="store_true", help="leave the cluster running in the background")
    up.add_argument("--no-demo", action="store_true", help="apply no sample models")
    up.add_argument(
        "--once", action="store_true", help="end after the models are Ready; the exit code says whether they are"
    )
    up.set_defaults(command=_up)

    commands.add_parser("down", help="stop a cluster that was started with --detach").set_defaults(command=_down)
    commands.add_parser("status", help="say what runs").set_defaults(command=_status)
    commands.add_parser("programs", help="find or build the programs of a cluster and say where they are").set_defaults(
        command=_programs
    )
    for command in commands.choices.values():
        command.add_argument(
            "--state-dir", type=Path, default=default_folder(os.environ), help="the cluster's folder (%(default)s)"
        )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text!r}: models become Ready on nodes")
    return int(text)


def _up(arguments: argparse.Namespace, console: Console) -> int:
    folder = StateFolder(arguments.state_dir)
    console.print(hub_sentence(os.environ), highlight=False, soft_wrap=True)
    if arguments.detach:
        return _up_detached(arguments, folder, console)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        folder.claimed(),
        LocalCluster(nodes=arguments.nodes, state_dir=folder.path, announce=Announcer(console)) as cluster,
    ):
        folder.write_env(cluster.env())
        _greet(folder, console)
        if not arguments.no_demo:
            _demo(folder, console)
        if not (arguments.once or os.environ.get("ONCE") == "1"):
            console.print("The cluster stays up until Ctrl-C.")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            console.print("Stopping.")
    return 0


def _up_detached(arguments: argparse.Namespace, folder: StateFolder, console: Console) -> int:
    if folder.running_pid() is not None:
        raise FolderInUse(f"a local cluster runs in {folder.path} already (pid {folder.running_pid()})")
    folder.create()
    command = [sys.executable, "-m", "tools.localcluster", "up", "--no-demo", "--nodes", str(arguments.nodes)]
    with folder.output.open("w") as output:
        child = subprocess.Popen(
            [*command, "--state-dir", str(folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    console.print(f"Starting; {folder.output} tells more.")
    told = Reminder(lambda about: console.print(f"Waiting for the cluster: {about}", highlight=False, soft_wrap=True))
    while folder.running_pid() != child.pid or folder.read_env() is None:
        if child.poll() is not None:
            raise StartFailed(folder.output.read_text())
        told.waits_for(last_line(folder.output.read_text()))
        time.sleep(0.1)
    _greet(folder, console)
    if not arguments.no_demo:
        _demo(folder, console)
    return 0


def _down(arguments: argparse.Namespace, console: Console) -> int:
    folder = StateFolder(arguments.state_dir)
    pid = folder.running_pid()
    if pid is None:
        console.print(f"No cluster runs in {folder.path}.")
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while folder.running_pid() == pid:
        if time.monotonic() > deadline:
            console.print(f"The cluster (pid {pid}) has not stopped within {_STOP_SECONDS:.0f} s.")
            return 1
        time.sleep(0.05)
    console.print("Stopped.")
    return 0


def _status(arguments: argparse.Namespace, console: Console) -> int:
    folder = StateFolder(arguments.state_dir)
    pid, env = folder.running_pid(), folder.read_env()
    if pid is None:
        console.print(f"No cluster runs in {folder.path}.")
        return 1
    if env is None:
        console.print(f"The cluster in {folder.path} (pid {pid}) is starting.")
        return 1
    console.print(f"The cluster in {folder.path} runs (pid {pid}).")
    kubectl = folder.path / "bin" / "kubectl"
    for question in (
        ("get", "nodes"),
        ("get", "pods", "-n", "ome", "-o", "wide"),
        ("get", "basemodels,clusterbasemodels", "-A"),
    ):
        subprocess.run([kubectl, *question], env=os.environ | env, check=False)
    return 0


def _programs(_arguments: argparse.Namespace, console: Console) -> int:
    for name, path in obtain(Builder(os.environ).build, os.environ).paths.items():
        console.print(f"{name} {path}", highlight=False, soft_wrap=True)
    return 0


def _demo(folder: StateFolder, console: Console) -> None:
    Demo(folder.read_env() or {}, folder.path / "bin" / "kubectl", console).run()


def _greet(folder: StateFolder, console: Console) -> None:
    console.print(
        f"The cluster is up. To join in: [bold]set -a; . {folder.path}/env; PATH={folder.path}/bin:$PATH",
        soft_wrap=True,
    )
    if page := (folder.read_env() or {}).get("STATUS_PAGE"):
        console.print(
            f"Its page is [bold]{page}[/bold], under a certificate of its own. After joining in, the token to log in "
            f"with: [bold]kubectl create token {READER} -n {NAMESPACE} --audience={AUDIENCE}",
            soft_wrap=True,
            highlight=False,
        )


def last_line(text: str) -> str:
    """The last line of an output that says anything."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it has not begun yet")


class Announcer:
    """Prints each stage with the time since the start."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()

    def __call__(self, stage: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._started:5.1f} s[/dim] {stage}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())

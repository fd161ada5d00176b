"""Applies the sample models to a running cluster and shows them become Ready, as a user would see it.

It joins by the variables of the cluster's `env` file only, so it works on any cluster that offers them.
"""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from libs.model.kinds import KINDS
from ome.model.v1 import model_pb2
from ome.status.v1 import status_pb2
from tools.localcluster.kubelet.images import REPOSITORY
from tools.localcluster.reminder import Reminder
from tools.localcluster.status_client import status_stub

SAMPLES = REPOSITORY / "deploy" / "samples"
_KINDS = {kind.name for kind in KINDS}
_DEADLINE_SECONDS = 600.0
_WATCH_SECONDS = 4.0

Phase = model_pb2.NodePhase
State = status_pb2.ModelState


class DemoFailed(RuntimeError):
    """A sample model did not become Ready; the message says which and why."""


@dataclass(frozen=True)
class Applied:
    """A model object of the samples."""

    kind: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Demo:
    def __init__(self, env: Mapping[str, str], kubectl: Path, console: Console) -> None:
        self._env = env
        self._kubectl_path = kubectl
        self._console = console

    def run(self) -> None:
        """Apply the samples, follow them to Ready on all their nodes, show the guide's commands; or DemoFailed."""
        applied = self._apply()
        started = time.monotonic()
        self._follow(applied)
        if not self._console.is_terminal:
            # Where it cannot draw over itself, the display leaves its last line open.
            self._console.print()
        self._console.print(f"[green]All {len(applied)} models are Ready after {time.monotonic() - started:.1f} s.")
        for arguments in self._guide(applied):
            self._console.print(f"\n[bold]$ kubectl {' '.join(arguments)}")
            self._console.print(self._kubectl(*arguments), markup=False, highlight=False, end="")

    def _apply(self) -> list[Applied]:
        self._console.print(f"[bold]$ kubectl apply -f {SAMPLES.relative_to(REPOSITORY)}")
        answer = json.loads(self._kubectl("apply", "-f", str(SAMPLES), "-o", "json"))
        items = answer["items"] if answer["kind"] == "List" else [answer]
        return [
            Applied(
                item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"], item["metadata"]["uid"]
            )
            for item in items
            if item["kind"] in _KINDS
        ]

    def _follow(self, applied: Sequence[Applied]) -> None:
        models: dict[str, status_pb2.Model] = {}
        # A terminal shows the table all the time.
        say = Reminder(lambda about: None if self._console.is_terminal else self._console.out(about, highlight=False))
        with Live(console=self._console, refresh_per_second=8) as live:
            for model in self._updates():
                models[model.ref.uid] = model
                ours = [models[one.uid] for one in applied if one.uid in models]
                say.waits_for(waiting_sentence(applied, ours))
                live.update(progress_table(ours))
                if failed := [model for model in ours if model.state == State.MODEL_STATE_FAILED]:
                    raise DemoFailed("\n".join(f"{model.ref.name} failed. {explain(model)}" for model in failed))
                if len(ours) == len(applied) and all(map(is_complete, ours)):
                    return
        raise DemoFailed(f"the models were not Ready after {_DEADLINE_SECONDS:.0f} s")

    def _updates(self) -> Iterator[status_pb2.Model]:
        """Every change of every model until the deadline, through restarts of the status service."""
        deadline = time.monotonic() + _DEADLINE_SECONDS
        env = self._env
        with status_stub(env["STATUS_ADDR"], Path(env["STATUS_CA"]), env["STATUS_TOKEN"]) as stub:
            while (remaining := deadline - time.monotonic()) > 0:
                request = status_pb2.WatchModelsRequest()
                try:
                    # A new watch begins with all models, so that those of which nothing is heard are looked at too.
                    timeout = min(remaining, _WATCH_SECONDS)
                    for event in stub.WatchModels(request, timeout=timeout, wait_for_ready=True):
                        if event.HasField("updated"):
                            yield event.updated
                except grpc.RpcError as error:
                    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                        raise DemoFailed(
                            f"the status service refuses: {error.code().name}: {error.details()}"
                        ) from error
                    time.sleep(0.2)

    def _guide(self, applied: Sequence[Applied]) -> Iterator[tuple[str, ...]]:
        yield ("get", "clusterbasemodels")
        yield ("get", "basemodels", "--all-namespaces")
        yield ("get", "configmaps", "-n", "ome", "-l", "models.ome/basemodel-status=true")
        for model in applied:
            yield ("get", "nodes", "-l", f"models.ome/{model.uid}=Ready")

    def _kubectl(self, *arguments: str) -> str:
        result = subprocess.run(
            [self._kubectl_path, *arguments],
            env={"KUBECONFIG": self._env["KUBECONFIG"], "HOME": str(Path(self._env["KUBECONFIG"]).parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise DemoFailed(f"kubectl {' '.join(arguments)}: {result.stderr}")
        return result.stdout


def is_complete(model: status_pb2.Model) -> bool:
    """Ready on every node it is meant for."""
    phases = [node.phase for node in model.nodes]
    return model.state == State.MODEL_STATE_READY and bool(phases) and set(phases) == {Phase.NODE_PHASE_READY}


def explain(model: status_pb2.Model) -> str:
    """What the conditions say about that it is not Ready yet."""
    failing = [one for one in model.conditions if one.status == status_pb2.CONDITION_STATUS_FALSE and one.message]
    return " ".join(dict.fromkeys(f"{one.reason}: {one.message}" for one in failing))


def waiting_sentence(applied: Sequence[Applied], models: Sequence[status_pb2.Model]) -> str:
    """Which of the models are awaited still, and why."""
    unfinished = [f"{model.ref.name} ({explain(model)})" for model in models if not is_complete(model)]
    known = {model.ref.uid for model in models}
    unfinished += [f"{one.name} (nothing is known of it yet)" for one in applied if one.uid not in known]
    return f"waiting for {', '.join(unfinished)}"


def progress_table(models: Sequence[status_pb2.Model]) -> Table:
    """One line per model and node."""
    table = Table("Model", "Node", "Phase", "Progress", "Rate", "Note", box=None, pad_edge=False)
    for model in models:
        for node in model.nodes:
            ready = node.phase == Phase.NODE_PHASE_READY
            total = node.bytes_total or model.artifact.bytes
            bar = ProgressBar(total=total or 1, completed=total or 1 if ready else node.bytes_done, width=30)
            rate = f"{node.bytes_per_second / 1e6:.0f} MB/s" if node.bytes_per_second else ""
            phase = Phase.Name(node.phase).removeprefix("NODE_PHASE_").capitalize()
            note = "" if ready else node.message or explain(model)
            table.add_row(model.ref.name, node.node, f"[green]{phase}" if ready else phase, bar, rate, escape(note))
        if not model.nodes:
            table.add_row(model.ref.name, "", "Waiting", "", "", escape(explain(model)))
    return table

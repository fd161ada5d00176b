"""Folds the states of a Pod's containers into the Pod's status. Pure: times come in as text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


@dataclass
class ContainerState:
    """What is known of one container. `state` and `last_state` are spelt as in the Kubernetes API."""

    name: str
    image: str
    state: Object = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last_state: Object = field(default_factory=dict)
    restart_count: int = 0
    started: bool = False
    ready: bool = False

    @property
    def exit_code(self) -> int | None:
        return self.state["terminated"]["exitCode"] if "terminated" in self.state else None

    def as_status(self) -> Object:
        return {
            "name": self.name,
            "image": self.image,
            "imageID": self.image,
            "containerID": f"process://{self.name}-{self.restart_count}",
            "state": self.state,
            "lastState": self.last_state,
            "restartCount": self.restart_count,
            "started": self.started,
            "ready": self.ready,
        }


def pod_phase(initializers: Sequence[ContainerState], containers: Sequence[ContainerState], restart_policy: str) -> str:
    """Pending, Running, Succeeded or Failed (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/)."""
    failed_initializers = [state for state in initializers if state.exit_code not in (0, None)]
    if failed_initializers and restart_policy == "Never":
        return "Failed"
    if any(state.exit_code != 0 for state in initializers):
        return "Pending"
    codes = [state.exit_code for state in containers]
    if None not in codes and restart_policy != "Always":
        if not any(codes):
            return "Succeeded"
        if restart_policy == "Never":
            return "Failed"
    if all("waiting" in state.state and state.restart_count == 0 for state in containers):
        return "Pending"
    return "Running"


def pod_conditions(
    previous: Sequence[Object],
    initializers: Sequence[ContainerState],
    containers: Sequence[ContainerState],
    phase: str,
    now: str,
) -> list[Object]:
    """The kubelet's four conditions, beside those that others have set, which are kept."""
    initialized = all(state.exit_code == 0 for state in initializers)
    unready = [state.name for state in containers if not state.ready]
    if phase in ("Succeeded", "Failed"):
        readiness = (False, "PodCompleted" if phase == "Succeeded" else "PodFailed", "")
    elif unready:
        readiness = (False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    else:
        readiness = (True, "", "")
    own = {
        "PodReadyToStartContainers": (phase in ("Pending", "Running"), "", ""),
        "Initialized": (initialized, "" if initialized else "ContainersNotInitialized", ""),
        "ContainersReady": readiness,
        "Ready": readiness,
    }
    known = {condition["type"]: condition for condition in previous}
    kept = [condition for condition in previous if condition["type"] not in own]
    return kept + [_condition(kind, *value, known.get(kind, {}), now) for kind, value in own.items()]


def _condition(kind: str, holds: bool, reason: str, message: str, previous: Object, now: str) -> Object:
    status = "True" if holds else "False"
    since = previous.get("lastTransitionTime", now) if previous.get("status") == status else now
    condition = {"type": kind, "status": status, "lastTransitionTime": since, "lastProbeTime": None}
    if reason:
        condition |= {"reason": reason, "message": message}
    return condition

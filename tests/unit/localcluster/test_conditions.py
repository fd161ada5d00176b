from typing import Any

import pytest

from tools.localcluster.kubelet.conditions import ContainerState, pod_conditions, pod_phase

WAITING = {"waiting": {"reason": "ContainerCreating"}}
RUNNING = {"running": {"startedAt": "t"}}


def container(state: dict[str, Any], *, ready: bool = False, restarts: int = 0) -> ContainerState:
    return ContainerState("c", "image", state=state, ready=ready, restart_count=restarts)


def ended(code: int) -> dict[str, Any]:
    return {"terminated": {"exitCode": code}}


@pytest.mark.parametrize(
    ("initializers", "containers", "policy", "phase"),
    [
        ([], [WAITING], "Always", "Pending"),
        ([], [RUNNING], "Always", "Running"),
        ([], [RUNNING, WAITING], "Always", "Running"),
        ([], [ended(0)], "Always", "Running"),
        ([], [ended(0)], "Never", "Succeeded"),
        ([], [ended(0), ended(3)], "Never", "Failed"),
        ([], [ended(0), RUNNING], "Never", "Running"),
        ([], [ended(3)], "OnFailure", "Running"),
        ([], [ended(0)], "OnFailure", "Succeeded"),
        ([RUNNING], [WAITING], "Always", "Pending"),
        ([ended(1)], [WAITING], "Never", "Failed"),
        ([ended(1)], [WAITING], "Always", "Pending"),
        ([ended(0)], [RUNNING], "Always", "Running"),
    ],
)
def test_phase_follows_from_the_containers(
    initializers: list[dict[str, Any]], containers: list[dict[str, Any]], policy: str, phase: str
) -> None:
    assert (
        pod_phase([container(state) for state in initializers], [container(state) for state in containers], policy)
        == phase
    )


def test_container_that_backs_off_after_a_crash_does_not_make_the_pod_pending_again() -> None:
    assert pod_phase([], [container(WAITING, restarts=1)], "Always") == "Running"


def statuses(conditions: list[dict[str, Any]]) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in conditions}


def test_pod_is_ready_when_all_containers_are() -> None:
    some = pod_conditions([], [], [container(RUNNING, ready=True), container(RUNNING)], "Running", "t1")
    assert statuses(some)["Ready"] == "False"
    both = pod_conditions(some, [], [container(RUNNING, ready=True), container(RUNNING, ready=True)], "Running", "t2")
    assert statuses(both)["Ready"] == statuses(both)["ContainersReady"] == "True"


def test_transition_times_change_only_with_the_status_and_foreign_conditions_stay() -> None:
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "t0"}
    first = pod_conditions([scheduled], [], [container(RUNNING)], "Running", "t1")
    second = pod_conditions(first, [], [container(RUNNING, ready=True)], "Running", "t2")
    times = {condition["type"]: condition["lastTransitionTime"] for condition in second}
    assert times == {
        "PodScheduled": "t0",
        "PodReadyToStartContainers": "t1",
        "Initialized": "t1",
        "ContainersReady": "t2",
        "Ready": "t2",
    }

"""Budgets of namespaces on a whole cluster: who waits says so with figures, and goes on when there is room."""

from collections.abc import Iterator

import pytest

from tests.support.fleet import Fleet, Object, condition, model, started_fleet
from tests.support.hub import generated_model

pytestmark = pytest.mark.cluster

TEAM = "team-a"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with started_fleet(2, {"controller": {"namespaceBudgets": [f"{TEAM}=5Mi"]}}) as fleet:
        fleet.cluster.kubectl("create", "namespace", TEAM)
        fleet.cluster.kubectl("create", "namespace", "team-b")
        yield fleet


def of_team(name: str, namespace: str = TEAM, **storage: object) -> Object:
    return model(name, f"hf://org/{name}", "BaseModel", namespace, **storage)


def await_reason(fleet: Fleet, manifest: Object, reason: str) -> Object:
    def reached() -> Object | None:
        item = fleet.get(manifest) or {}
        return item if condition(item, "Stalled").get("reason") == reason else None

    found: Object = fleet.until(f"{manifest['metadata']['name']} says {reason}", reached)
    return found


def test_a_model_over_the_budget_waits_until_another_is_deleted_and_ready_models_stay(fleet: Fleet) -> None:
    for number, name in enumerate(("first", "second", "third")):
        fleet.hub.add_model(f"org/{name}", {"README.md": name}, generated=generated_model((2 << 20) + number))
    first, second, third = of_team("first"), of_team("second"), of_team("third", "team-b")
    fleet.apply(first)
    fleet.await_state(first, "Ready", {"node-1", "node-2"})
    fleet.apply(second, third)
    stalled = condition(await_reason(fleet, second, "BudgetExceeded"), "Stalled")
    assert stalled["status"] == "True"
    assert "needs 4 MiB on 2 nodes" in stalled["message"]
    assert "may take 5 MiB on all nodes together, and take 4 MiB" in stalled["message"]
    assert "namespaceBudgets of the controller's chart" in stalled["message"]
    assert "BudgetExceeded" in fleet.cluster.kubectl("get", "basemodels", "-n", TEAM, "-o", "wide")
    # Other namespaces have no budget, and what was there is untouched.
    fleet.await_state(third, "Ready", {"node-1", "node-2"})
    fleet.await_state(first, "Ready", {"node-1", "node-2"})
    assert fleet.hub.sent_bytes("org/second/*.safetensors") == 0

    # A model on fewer nodes fits beside the first one, and grows when that goes.
    fewer = of_team("second", nodeSelector={"kubernetes.io/hostname": "node-1"})
    fleet.apply(fewer)
    await_reason(fleet, fewer, "BudgetExceeded")
    fleet.delete(first)
    fleet.await_gone(first)
    fleet.await_state(fewer, "Ready", {"node-1"})
    fleet.apply(second)
    fleet.await_state(second, "Ready", {"node-1", "node-2"})

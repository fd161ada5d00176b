"""Who may have a manifest planned."""

import json

import pytest

from libs.chassis.errors import Unavailable
from libs.chassis.health import Health
from services.status.access import Access, Denied, EveryAccess, Scope
from services.status.callers import Caller, TooMany
from services.status.cluster import Cluster
from services.status.forecasts import Forecaster
from services.status.observations import Listener, Observations

MANIFEST = {
    "apiVersion": "ome.io/v1beta1",
    "kind": "BaseModel",
    "metadata": {"name": "llama", "namespace": "team-a"},
}


class Creators:
    """Lets everybody create in team-a, and do nothing else."""

    async def permits(self, caller: Caller, verb: str, scope: Scope, name: str = "") -> bool:
        """Whether it is a creation in team-a."""
        return (verb, scope.namespace) == ("create", "team-a")


def forecaster(access: Access) -> Forecaster:
    """One that is not connected to NATS: whoever gets that far is told that it is unavailable."""
    listener = Listener(*[lambda *_: None] * 5)
    return Forecaster(Cluster(Health(), "ome", listener), Observations(60.0), access)


async def test_only_who_may_create_the_model_gets_as_far_as_asking() -> None:
    asked = forecaster(Creators())
    with pytest.raises(Unavailable):
        await asked.plan(Caller("ada"), json.dumps(MANIFEST))
    for kind, namespace in (("BaseModel", "team-b"), ("ClusterBaseModel", "")):
        metadata = {"name": "llama", **({"namespace": namespace} if namespace else {})}
        with pytest.raises(Denied):
            await asked.plan(Caller("ada"), json.dumps(MANIFEST | {"kind": kind, "metadata": metadata}))


async def test_who_is_not_known_has_nothing_planned() -> None:
    with pytest.raises(Denied, match="callers: anyone"):
        await forecaster(EveryAccess()).plan(Caller("10.0.0.1"), json.dumps(MANIFEST))


async def test_plans_of_one_caller_are_bounded() -> None:
    asked = forecaster(Creators())
    for _ in range(20):
        with pytest.raises(Unavailable, match="not connected"):
            await asked.plan(Caller("ada"), json.dumps(MANIFEST))
    with pytest.raises(TooMany):
        await asked.plan(Caller("ada"), json.dumps(MANIFEST))
    with pytest.raises(Unavailable, match="not connected"):
        await asked.plan(Caller("bob"), json.dumps(MANIFEST))

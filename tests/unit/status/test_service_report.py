"""What an InferenceService is told of the model that it names."""

from typing import Any

from services.status.service_report import is_said, service_status, timeless
from tests.unit.status.samples import LATER, NOW, a_model

READY = {
    "state": "Ready",
    "nodesReady": ["a", "b"],
    "path": "/models/llama",
    "conditions": [{"type": "Available", "reason": "NodesReady", "message": "2 of 3 nodes hold the model."}],
}


def service(status: dict[str, Any] | None = None, **model: Any) -> dict[str, Any]:
    metadata = {"name": "chat", "namespace": "team-a", "uid": "s", "generation": 4}
    return {"kind": "InferenceService", "metadata": metadata, "spec": {"model": model or None}, "status": status or {}}


def said(item: dict[str, Any], model: dict[str, Any] | None) -> tuple[str, str, str]:
    status = service_status(item, model, NOW)
    assert status is not None
    [condition] = status["conditions"]
    return condition["status"], condition["reason"], condition["message"]


def test_a_service_is_told_on_which_nodes_its_model_is_ready() -> None:
    model = {**a_model(), "status": READY}
    assert said(service(name="minilm"), model) == (
        "True",
        "NodesReady",
        "ClusterBaseModel minilm: 2 of 3 nodes hold the model.",
    )
    status = service_status(service(name="minilm"), model, NOW)
    assert status is not None
    assert status["model"] == {
        "kind": "ClusterBaseModel",
        "name": "minilm",
        "path": "/models/llama",
        "nodes": ["a", "b"],
    }
    assert status["observedGeneration"] == 4


def test_a_service_is_told_why_its_model_is_not_ready() -> None:
    available = {"type": "Available", "reason": "Gated", "message": "Accept the terms."}
    failed = {**a_model(), "status": {"state": "Failed", "conditions": [available]}}
    assert said(service(name="m"), failed) == ("False", "Gated", "ClusterBaseModel minilm: Accept the terms.")
    assert said(service(name="m"), a_model())[:2] == ("Unknown", "Pending")


def test_a_service_without_its_model_is_told_where_it_was_looked_for() -> None:
    status, reason, message = said(service(name="m"), None)
    assert (status, reason) == ("False", "NotFound")
    assert message.startswith("Neither BaseModel team-a/m nor ClusterBaseModel m exists") or "team-a/m" in message
    assert "BaseModel team-a/m, which spec.model names" in said(service(name="m", kind="BaseModel"), None)[2]
    assert "ClusterBaseModel m, which" in said(service(name="m", kind="ClusterBaseModel"), None)[2]


def test_a_service_that_names_no_model_of_ours_is_left_alone() -> None:
    for item in (service(), service(name="m", kind="Other"), service(name=3)):
        assert service_status(item, None, NOW) is None


def test_what_others_say_in_the_status_is_no_reason_to_write_it_again() -> None:
    model = {**a_model(), "status": READY}
    status = service_status(service(name="m"), model, NOW)
    assert status is not None
    others = {"url": "http://x", "conditions": [{"type": "EngineReady", "status": "True"}, *status["conditions"]]}
    present = service({**status, **others}, name="m")
    again = service_status(present, model, LATER)
    assert again == status
    assert is_said(present, status)
    assert not is_said(service(name="m"), status)


def test_what_was_refused_once_is_the_same_later() -> None:
    first, later = (service_status(service(name="m"), None, now) for now in (NOW, LATER))
    assert first is not None
    assert later is not None
    assert first != later
    assert timeless(first) == timeless(later)

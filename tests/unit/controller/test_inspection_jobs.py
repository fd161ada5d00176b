"""The Jobs that look into volumes: what they are, and what is read from them and their Pods."""

from typing import Any

import kubernetes_validate
import pytest

from ome.model.v1 import model_pb2
from ome.parser.v1.parser_pb2 import InspectionReport, ModelFacts
from services.controller.inspection_jobs import (
    job_manifest,
    job_name,
    kept_of_claim,
    kept_of_job,
    kept_of_pod,
    view_claim,
    view_job,
)
from services.controller.volumes import Claim, ClaimDirectory, CreateJob, Job

REF = model_pb2.ModelRef(kind=model_pb2.MODEL_KIND_BASE_MODEL, namespace="team-a", name="m" * 253, uid="u")
CREATE = CreateJob(REF, ClaimDirectory("team-a", "storage", "llama/$(HOME)"), "a/config.json", True, "s" * 64, 7, "")


def stored(**status: Any) -> dict[str, Any]:
    """The Job as the API server has it."""
    job = job_manifest(CREATE, "ome/parser:1")
    job["metadata"] |= {"uid": "job", "resourceVersion": "1"}
    return {**job, "status": status}


def pod(owner: str = "job", **status: Any) -> dict[str, Any]:
    metadata = {"name": "pod", "namespace": "team-a", "uid": "p", "ownerReferences": [{"kind": "Job", "uid": owner}]}
    return {"metadata": metadata, "spec": {"nodeName": "node-1"}, "status": status}


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "inspect", "state": state}]}


def view(job: dict[str, Any], *pods: dict[str, Any]) -> Job:
    found = view_job(kept_of_job(job), [kept_of_pod(one) for one in pods], 1.0)
    assert found is not None
    return found


def test_job_is_valid_and_its_names_are_short_enough() -> None:
    job = job_manifest(CREATE, "ome/parser:1")
    kubernetes_validate.validate(job, "1.30", strict=True)
    assert len(job["metadata"]["name"]) <= 63
    assert job["metadata"]["name"] == job_name("u", CREATE.subject, 7)
    assert job["metadata"]["ownerReferences"][0]["kind"] == "BaseModel"


def test_arguments_reach_the_parser_as_they_are_written() -> None:
    [inspect] = job_manifest(CREATE, "ome/parser:1")["spec"]["template"]["spec"]["containers"]
    assert "--path=llama/$$(HOME)" in inspect["args"]
    assert "--schema-path=a/config.json" in inspect["args"]
    assert "--skip-parsing" in inspect["args"]


def test_job_is_recognised_by_its_name_and_by_nothing_that_anybody_may_write() -> None:
    seen = view(stored())
    assert (seen.namespace, seen.subject, seen.number, seen.ended) == ("team-a", CREATE.subject, 7, None)
    changes: list[dict[str, Any]] = [
        {"name": "other"},
        {"annotations": {}},
        {"labels": {"models.ome.io/inspects": "another"}},
        {"ownerReferences": []},
    ]
    for change in changes:
        job = stored()
        job["metadata"] |= change
        assert view_job(job, [], 1.0) is None


@pytest.mark.parametrize(
    ("claim", "seen"),
    [
        ({"spec": {"accessModes": ["ReadWriteMany"]}, "status": {"phase": "Bound"}}, Claim("c", "Bound")),
        ({"spec": {"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}}, Claim("c", "")),
        ({"spec": {"accessModes": ["ReadWriteOncePod"]}}, Claim("c", "", shared=False)),
        (
            {"spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block"}},
            Claim("c", "", shared=False, block_device=True),
        ),
    ],
)
def test_claim_is_seen_as_it_may_be_mounted(claim: dict[str, Any], seen: Claim) -> None:
    metadata = {"namespace": "team-a", "name": "storage", "uid": "c", "managedFields": [{}]}
    kept = kept_of_claim({"metadata": metadata, **claim})
    assert "managedFields" not in kept["metadata"]
    assert view_claim(kept) == seen


def test_report_is_read_from_the_pod_before_the_job_is_done() -> None:
    message = '{"facts":{"modelType":"llama","later":1},"bytes":"5","files":"2"}'
    ended = pod(**container(terminated={"exitCode": 0, "message": message}))
    assert view(stored(), ended).ended == InspectionReport(facts=ModelFacts(model_type="llama"), bytes=5, files=2)
    assert view(stored(), pod("another", **container(terminated={"exitCode": 0, "message": message}))).ended is None


@pytest.mark.parametrize(
    ("status", "pods", "words"),
    [
        ({}, [pod(**container(terminated={"exitCode": 137, "reason": "OOMKilled"}))], "OOMKilled, exit code 137"),
        ({}, [pod(**container(terminated={"exitCode": 1, "message": "Traceback"}))], "exit code 1"),
        ({}, [pod(phase="Failed", reason="Evicted", message="disk pressure")], "Evicted, disk pressure"),
        (
            {"conditions": [{"type": "Failed", "status": "True", "message": "Job was active longer than deadline"}]},
            [],
            "longer than deadline",
        ),
    ],
    ids=["out of memory", "a crash", "an eviction", "the deadline"],
)
def test_end_without_a_report_is_told_and_says_nothing_of_the_model(
    status: dict[str, Any], pods: list[dict[str, Any]], words: str
) -> None:
    found = view(stored(**status), *pods).ended
    assert found is not None
    assert found.problem.reason == model_pb2.REASON_UNAVAILABLE
    assert words in found.problem.message
    assert "Traceback" not in found.problem.message


UNSCHEDULED = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]


@pytest.mark.parametrize(
    ("pods", "reason", "words"),
    [
        ([], model_pb2.REASON_UNAVAILABLE, "has no Pod yet"),
        ([pod(phase="Pending", conditions=UNSCHEDULED)], model_pb2.REASON_VOLUME_NOT_READY, "0/3 nodes are available"),
        ([pod(phase="Pending")], model_pb2.REASON_VOLUME_NOT_READY, "waits on node-1"),
        (
            [pod(phase="Pending", **container(waiting={"reason": "ContainerCreating"}))],
            model_pb2.REASON_VOLUME_NOT_READY,
            "kubectl describe pod -n team-a pod",
        ),
        (
            [pod(phase="Pending", **container(waiting={"reason": "ImagePullBackOff", "message": "no such image"}))],
            model_pb2.REASON_UNAVAILABLE,
            "ImagePullBackOff: no such image",
        ),
        ([pod(phase="Running", **container(running={"startedAt": "x"}))], None, ""),
    ],
    ids=["no Pod", "unscheduled", "bound", "volumes", "image", "running"],
)
def test_what_keeps_a_pod_from_running_is_told(
    pods: list[dict[str, Any]], reason: model_pb2.Reason | None, words: str
) -> None:
    waiting = view(stored(), *pods).waiting
    assert (waiting.reason if waiting else None) == reason
    assert words in (waiting.message if waiting else "")

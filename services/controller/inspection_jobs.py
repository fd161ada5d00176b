"""The Jobs that look into volumes: what they ask of Kubernetes, and what they and their Pods tell. Pure.

A Job runs the parser without a token, a network peer or a right beyond reading one claim; what it found is the
termination message of its container (docs/adr/0010-volume-inspection.md). deploy/helm/controller/templates/guard.yaml
lets the controller create no other.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format

from libs.model.kinds import GROUP_VERSION, kind_numbered
from ome.model.v1 import model_pb2
from ome.parser.v1 import parser_pb2
from services.controller.volumes import PATIENCE_SECONDS, Claim, CreateJob, Job

# Holds the uid of the model; on the Pods as well.
MODEL_LABEL = "models.ome.io/inspects"
SELECTOR = {"labelSelector": MODEL_LABEL}
_SUBJECT = "models.ome.io/inspection-subject"
_NUMBER = "models.ome.io/inspection-number"
_CONTAINER = "inspect"
_VOLUME = "model"
_MOUNT = "/ome/volume"
# Where the kubelet reads a container's last message unless it is told otherwise.
_REPORT = "/dev/termination-log"
# The images' own user. There is no fsGroup: the kubelet would change the owner of every file for it.
_USER = 65532
# The controller gives up before; this is for the time in which no controller runs.
_DEADLINE_SECONDS = int(PATIENCE_SECONDS) + 60
_KEPT_SECONDS = 3600
_RESOURCES = {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}
_IDENTITY = ("namespace", "name", "uid", "resourceVersion", "deletionTimestamp")
_KEPT = (*_IDENTITY, "labels", "annotations", "ownerReferences")
# What the kubelet calls a container while its volumes are mounted and its image is pulled.
_CREATING = "ContainerCreating"

Object = Mapping[str, Any]


def job_name(model_uid: str, subject: str, number: int) -> str:
    """The name of the Job that makes one inspection: whoever creates it twice is told so."""
    return f"ome-inspect-{hashlib.sha256(f'{model_uid}/{subject}/{number}'.encode()).hexdigest()[:20]}"


def job_manifest(create: CreateJob, image: str) -> dict[str, Any]:
    """The Job to create in the namespace of the claim."""
    model = create.model
    labels = {MODEL_LABEL: model.uid, "app.kubernetes.io/name": "ome-inspect", "app.kubernetes.io/part-of": "ome"}
    owner = {"apiVersion": GROUP_VERSION, "kind": kind_numbered(model.kind).name, "name": model.name, "uid": model.uid}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(model.uid, create.subject, create.number),
            "namespace": create.place.namespace,
            "labels": labels,
            "annotations": {_SUBJECT: create.subject, _NUMBER: str(create.number)},
            "ownerReferences": [owner],
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": _DEADLINE_SECONDS,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": _pod(create, image)},
        },
    }


def _pod(create: CreateJob, image: str) -> dict[str, Any]:
    arguments = ["inspect-volume", f"--mount={_MOUNT}", f"--report={_REPORT}", f"--path={create.place.path}"]
    if create.schema_path:
        arguments.append(f"--schema-path={create.schema_path}")
    if create.skip_parsing:
        arguments.append("--skip-parsing")
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": _CONTAINER,
                "image": image,
                # "$(NAME)" in an argument would stand for a variable.
                "args": [argument.replace("$", "$$") for argument in arguments],
                "resources": _RESOURCES,
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": _VOLUME, "mountPath": _MOUNT, "readOnly": True}],
            }
        ],
        "volumes": [{"name": _VOLUME, "persistentVolumeClaim": {"claimName": create.place.claim, "readOnly": True}}],
    }


def view_claim(claim: Object) -> Claim:
    """A PersistentVolumeClaim as planning sees it."""
    metadata, spec = claim["metadata"], claim.get("spec") or {}
    return Claim(
        uid=metadata["uid"],
        phase=(claim.get("status") or {}).get("phase") or "",
        deleting="deletionTimestamp" in metadata,
        shared=not {"ReadWriteMany", "ReadOnlyMany"}.isdisjoint(spec.get("accessModes") or ()),
        block_device=spec.get("volumeMode") == "Block",
    )


def kept_of_claim(claim: Object) -> dict[str, Any]:
    """What to keep of a claim: every one of the cluster is watched."""
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    return {
        "metadata": _kept_metadata(claim, _IDENTITY),
        "spec": {name: spec[name] for name in ("accessModes", "volumeMode") if name in spec},
        "status": {"phase": status.get("phase")},
    }


def kept_of_job(job: Object) -> dict[str, Any]:
    """What to keep of a Job."""
    return {
        "metadata": _kept_metadata(job, _KEPT),
        "status": {"conditions": (job.get("status") or {}).get("conditions")},
    }


def kept_of_pod(pod: Object) -> dict[str, Any]:
    """What to keep of a Pod of a Job."""
    status = pod.get("status") or {}
    names = ("phase", "reason", "message", "conditions", "containerStatuses")
    return {
        "metadata": _kept_metadata(pod, _KEPT),
        "spec": {"nodeName": (pod.get("spec") or {}).get("nodeName")},
        "status": {name: status[name] for name in names if name in status},
    }


def _kept_metadata(item: Object, names: Iterable[str]) -> dict[str, Any]:
    return {name: item["metadata"][name] for name in names if name in item["metadata"]}


def model_of(item: Object) -> str:
    """The uid of the model that a Job or Pod was made for."""
    return str((item["metadata"].get("labels") or {}).get(MODEL_LABEL, ""))


def view_job(job: Object, pods: Iterable[Object], known_since: float) -> Job | None:
    """A Job as planning sees it, with those of the Pods that are its own. None for one that is not of our making."""
    metadata = job["metadata"]
    annotations = metadata.get("annotations") or {}
    subject, number = annotations.get(_SUBJECT, ""), annotations.get(_NUMBER, "")
    if not number.isdecimal() or metadata["name"] != job_name(model_of(job), subject, int(number)):
        return None
    if not _belongs_to(job, model_of(job)):
        # Everything above can be made up by whoever may create Jobs somewhere, and it must not stand in our way.
        return None
    pod = next((pod for pod in pods if _belongs_to(pod, metadata["uid"])), None)
    ended = _report_of(pod) if pod else None
    if ended is None and (failure := _failure_of(job)):
        ended = parser_pb2.InspectionReport(problem=failure)
    return Job(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        subject=subject,
        number=int(number),
        known_since=known_since,
        deleting="deletionTimestamp" in metadata,
        ended=ended,
        waiting=_wait_of(job, pod),
    )


def _belongs_to(item: Object, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in item["metadata"].get("ownerReferences") or ())


def _report_of(pod: Object) -> parser_pb2.InspectionReport | None:
    """What the container said at its end, or how it ended without a word."""
    ended = _container_state(pod).get("terminated")
    status = pod.get("status") or {}
    if ended is None and status.get("phase") != "Failed":
        return None
    ended = ended or {}
    try:
        return json_format.Parse(ended.get("message") or "", parser_pb2.InspectionReport(), ignore_unknown_fields=True)
    except json_format.ParseError:
        code = f"exit code {ended['exitCode']}" if "exitCode" in ended else ""
        why = (status.get("reason") or ended.get("reason"), code, status.get("message"))
        how = ", ".join(filter(None, why)) or "no cause is known"
        problem = _unavailable(f"Pod {_name(pod)} ended without a report ({how})")
        return parser_pb2.InspectionReport(problem=problem)


def _failure_of(job: Object) -> parser_pb2.Finding | None:
    """Why Kubernetes has given a Job up. Its Pod, and what that could have told, may be gone."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition.get("status") == "True" and condition.get("type") in ("Failed", "Complete"):
            how = condition.get("message") or condition.get("reason") or condition["type"]
            return _unavailable(f"Job {_name(job)} ended without a report: {how}")
    return None


def _wait_of(job: Object, pod: Object | None) -> parser_pb2.Finding | None:
    """What keeps a Pod from running; None when it runs."""
    namespace = job["metadata"]["namespace"]
    if pod is None:
        return _unavailable(
            f"Job {_name(job)} has no Pod yet; "
            f"'kubectl describe job -n {namespace} {job['metadata']['name']}' names the cause"
        )
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _not_ready(
                f"Pod {_name(pod)} cannot be scheduled: {condition.get('message') or 'no reason is given'}"
            )
    waiting = _container_state(pod).get("waiting")
    if waiting is None and (status.get("phase") != "Pending" or _container_state(pod)):
        return None
    waiting = waiting or {}
    reason, message = waiting.get("reason") or _CREATING, waiting.get("message") or ""
    if reason != _CREATING:
        return _unavailable(f"Pod {_name(pod)} cannot start: {reason}: {message}".rstrip(": "))
    if message:
        return _not_ready(f"Pod {_name(pod)} cannot start: {message}")
    # The kubelet tells only the Pod's events why a volume is not mounted.
    node = (pod.get("spec") or {}).get("nodeName")
    where = f" on {node}" if node else ""
    return _not_ready(
        f"Pod {_name(pod)} waits{where} for the volume or its image; "
        f"'kubectl describe pod -n {namespace} {name}' names the cause"
    )


def _container_state(pod: Object) -> Object:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((status.get("state") or {} for status in statuses if status.get("name") == _CONTAINER), {})


def _name(item: Object) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def _unavailable(message: str) -> parser_pb2.Finding:
    return parser_pb2.Finding(reason=model_pb2.REASON_UNAVAILABLE, message=message)


def _not_ready(message: str) -> parser_pb2.Finding:
    return parser_pb2.Finding(reason=model_pb2.REASON_VOLUME_NOT_READY, message=message)

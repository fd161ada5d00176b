"""Decides about a model that is read from a PersistentVolumeClaim: whether the claim can be used, and when a Job looks.

Pure. All that is known of earlier inspections is in the plan that was stored last, and each inspection has a number:
the result of a Job is taken once, whoever takes it and however often it is read.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.artifact.uri import ALLOW_INCOMPLETE, VolumeClaimUri, allows_incomplete, parse_uri
from libs.model.findings import defects_sentence, is_refused
from libs.model.problems import new_problem
from libs.model.reasons import reason_of
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from ome.parser.v1 import parser_pb2
from services.controller.pauses import growing_pause, spread
from services.controller.specification import ModelSpec

# A Job that has not looked by then is given up, with what kept it. Volumes of clouds take minutes to be attached.
PATIENCE_SECONDS = 300.0
# Further than this no two replicas' clocks are apart, unless one was set.
_CLOCKS_DIFFER_SECONDS = 60.0
# A Pod that starts later than this is in trouble worth telling, unless it starts after all.
_SILENCE_SECONDS = 5.0
_BOUND = "Bound"
# What an inspection could not find out for itself says nothing of the model.
_UNABLE = (model_pb2.REASON_UNAVAILABLE, model_pb2.REASON_VOLUME_NOT_READY, model_pb2.REASON_DISK_ERROR)


@dataclass(frozen=True)
class ClaimDirectory:
    """Where a model lies: a claim and a directory in its volume, empty for the whole volume."""

    namespace: str
    claim: str
    path: str


@dataclass(frozen=True)
class Claim:
    """A PersistentVolumeClaim, as far as it matters here. shared: Pods on several nodes may mount it at a time."""

    uid: str
    phase: str
    deleting: bool = False
    shared: bool = True
    block_device: bool = False


@dataclass(frozen=True)
class Job:
    """One of our Jobs. known_since is by a clock of this process that is never set.

    ended is what it found, once it has; waiting says what keeps it from looking.
    """

    namespace: str
    name: str
    uid: str
    subject: str
    number: int
    known_since: float
    deleting: bool = False
    ended: parser_pb2.InspectionReport | None = None
    waiting: parser_pb2.Finding | None = None


@dataclass(frozen=True)
class Refusal:
    """A Job that the API server would not create: which inspection it was for, and why."""

    subject: str
    number: int
    report: parser_pb2.InspectionReport


@dataclass(frozen=True)
class CreateJob:
    """Have a volume inspected."""

    model: model_pb2.ModelRef
    place: ClaimDirectory
    schema_path: str
    skip_parsing: bool
    subject: str
    number: int
    reason: str


@dataclass(frozen=True)
class DeleteJob:
    """Remove a Job that has done its work or is no longer of use."""

    namespace: str
    name: str
    uid: str
    reason: str


@dataclass(frozen=True)
class VolumeRules:
    """What the operator's settings decide. Times in seconds."""

    inspect_seconds: float
    retry_initial_seconds: float
    retry_max_seconds: float


@dataclass(frozen=True)
class Seen:
    """What is known of a model's volume. claim is None when there is no such claim."""

    claim: Claim | None = None
    jobs: Sequence[Job] = ()
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Look:
    """What to do and to report about a model's volume, and after how many seconds to look again."""

    volume: fetch_pb2.Volume
    problem: fetch_pb2.Problem | None = None
    create: CreateJob | None = None
    delete: tuple[DeleteJob, ...] = ()
    look_again_seconds: float | None = None


def place_of(model: ModelSpec) -> ClaimDirectory | None:
    """Where the model lies; None unless its URI is a pvc:// one.

    Raises InvalidValue with reason InvalidUri when it names a claim that such a model may not use.
    """
    text = (model.storage or {}).get("storageUri") or ""
    uri = parse_uri(text) if text.startswith("pvc://") else None
    if not isinstance(uri, VolumeClaimUri):
        return None
    own, rest = model.ref.namespace, "/".join(filter(None, (uri.claim, uri.sub_path)))
    if not own and not uri.namespace:
        raise InvalidValue(
            Reason.INVALID_URI,
            f"storageUri {text!r} must name the namespace of the claim, because the model is in none: "
            f"write pvc://<namespace>:{rest}",
        )
    if own and uri.namespace not in ("", own):
        raise InvalidValue(
            Reason.INVALID_URI,
            f"storageUri {text!r} names a claim of another namespace, but a BaseModel reads only claims of its own "
            f"namespace: write pvc://{rest}, or make it a ClusterBaseModel",
        )
    return ClaimDirectory(own or uri.namespace, uri.claim, uri.sub_path)


def look(
    model: ModelSpec,
    place: ClaimDirectory,
    seen: Seen,
    before: fetch_pb2.Volume,
    rules: VolumeRules,
    now: float,
    today: float,
) -> Look:
    """What to do about the volume of a living model; before is what was reported last.

    now is the time of a clock of this process that is never set, today that of the day: what was written down, others
    may have written.
    """
    volume = fetch_pb2.Volume(namespace=place.namespace, claim=place.claim, path=place.path)
    obstacle = _claim_problem(place, seen.claim)
    if obstacle or not seen.claim:
        gone = tuple(delete_job(job, "the claim cannot be used") for job in seen.jobs if not job.deleting)
        return Look(volume, obstacle, delete=gone)
    schema_path = (model.storage or {}).get("schemaPath") or ""
    parameters = (model.storage or {}).get("parameters") or {}
    subject = _subject(place, seen.claim, schema_path, model.skip_parsing, allows_incomplete(parameters))
    inspection = fetch_pb2.VolumeInspection(subject=subject)
    if before.inspection.subject == subject:
        inspection.CopyFrom(before.inspection)
    running, others = _sort_out(seen.jobs, place, subject, inspection.number + 1)
    delete = [delete_job(job, "it is about what was asked for earlier") for job in others if not job.deleting]
    report = _answer(running, seen.refusal, subject, inspection.number + 1, now)
    if report is not None:
        inspection = _conclude(inspection, report, parameters, today)
        if running is not None:
            delete.append(delete_job(running, "it has ended"))
            running = None
    volume.inspection.CopyFrom(inspection)
    due = _due(inspection, seen.claim, rules, today)
    create, again = None, None
    if running is not None:
        told_at, given_up_at = running.known_since + _SILENCE_SECONDS, running.known_since + PATIENCE_SECONDS
        again = (told_at if now < told_at else given_up_at) - now
    elif due > today:
        again = due - today if due < math.inf else None
    elif not seen.jobs:
        # A Job that is being deleted may have the name of this one: its end is heard of.
        why = "it is time to look again" if inspection.number else "the volume was not inspected yet"
        create = CreateJob(model.ref, place, schema_path, model.skip_parsing, subject, inspection.number + 1, why)
    return Look(volume, _problem(place, inspection, running, due, now), create, tuple(delete), again)


def describe(place: ClaimDirectory) -> str:
    """The claim in words."""
    return f"PersistentVolumeClaim {place.namespace}/{place.claim}"


def _claim_problem(place: ClaimDirectory, claim: Claim | None) -> fetch_pb2.Problem | None:
    if claim is None:
        problem_class = fetch_pb2.PROBLEM_CLASS_MISSING
        message = f"{describe(place)} does not exist: create it, or name another in storage.storageUri"
    elif claim.deleting:
        problem_class = fetch_pb2.PROBLEM_CLASS_MISSING
        message = f"{describe(place)} is being deleted"
    elif claim.phase == "Lost":
        problem_class = fetch_pb2.PROBLEM_CLASS_MISSING
        message = f"{describe(place)} is Lost: its PersistentVolume no longer exists; create the claim anew"
    elif claim.block_device:
        problem_class = fetch_pb2.PROBLEM_CLASS_MISSING
        message = f"{describe(place)} is a block device: a model needs a claim with volumeMode Filesystem"
    elif claim.phase == _BOUND:
        return None
    else:
        problem_class = fetch_pb2.PROBLEM_CLASS_UNAVAILABLE
        message = (
            f"{describe(place)} is {claim.phase or 'Pending'} and has no volume yet; "
            f"'kubectl describe pvc -n {place.namespace} {place.claim}' names the cause"
        )
    return fetch_pb2.Problem(reason=model_pb2.REASON_VOLUME_NOT_READY, message=message, problem_class=problem_class)


def _subject(place: ClaimDirectory, claim: Claim, schema_path: str, skip_parsing: bool, incomplete: bool) -> str:
    content = [place.namespace, place.claim, claim.uid, place.path, schema_path, skip_parsing]
    if incomplete:
        content.append(ALLOW_INCOMPLETE)
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def _sort_out(jobs: Sequence[Job], place: ClaimDirectory, subject: str, number: int) -> tuple[Job | None, list[Job]]:
    """The Job that makes the inspection of a number, and all others."""
    wanted = (place.namespace, subject, number, False)
    running = next((job for job in jobs if (job.namespace, job.subject, job.number, job.deleting) == wanted), None)
    return running, [job for job in jobs if job is not running]


def _answer(
    running: Job | None, refusal: Refusal | None, subject: str, number: int, now: float
) -> parser_pb2.InspectionReport | None:
    """What the inspection of a number has come to; None while that is open."""
    if running is None:
        return refusal.report if refusal and (refusal.subject, refusal.number) == (subject, number) else None
    if running.ended is not None:
        return running.ended
    if now < running.known_since + PATIENCE_SECONDS:
        return None
    late = parser_pb2.Finding(
        reason=model_pb2.REASON_UNAVAILABLE,
        message=f"Job {running.namespace}/{running.name} has not ended after {PATIENCE_SECONDS:g} s",
    )
    return parser_pb2.InspectionReport(problem=running.waiting or late)


def _conclude(
    before: fetch_pb2.VolumeInspection,
    report: parser_pb2.InspectionReport,
    parameters: Mapping[str, str],
    today: float,
) -> fetch_pb2.VolumeInspection:
    after = fetch_pb2.VolumeInspection(subject=before.subject, number=before.number + 1)
    after.inspected_at.FromMilliseconds(int(today * 1000))
    if not report.HasField("problem"):
        after.found_at.CopyFrom(after.inspected_at)
        after.artifact.CopyFrom(model_pb2.Artifact(bytes=report.bytes, files=report.files))
        if report.HasField("facts"):
            after.facts.CopyFrom(report.facts)
        if report.HasField("parse_problem"):
            after.parse_problem.CopyFrom(_as_problem(report.parse_problem))
        if why := _refusal(report, parameters):
            after.ClearField("found_at")
            after.failures = before.failures + 1
            what = f'{why}; mend it, or set parameters.{ALLOW_INCOMPLETE} to "true"'
            after.problem.CopyFrom(new_problem(Reason.INCOMPLETE, what, fetch_pb2.PROBLEM_CLASS_MISSING))
        return after
    if report.problem.reason in _UNABLE and before.HasField("found_at"):
        # Nothing speaks against what was found before.
        known = after
        after = fetch_pb2.VolumeInspection()
        after.CopyFrom(before)
        after.number = known.number
        after.inspected_at.CopyFrom(known.inspected_at)
    after.failures = before.failures + 1
    after.problem.CopyFrom(_as_problem(report.problem))
    return after


def _refusal(report: parser_pb2.InspectionReport, parameters: Mapping[str, str]) -> str:
    """Why what was found is known not to be the whole model, where the model does not allow that; empty otherwise."""
    if report.parse_problem.reason == model_pb2.REASON_INCOMPLETE and not allows_incomplete(parameters):
        return report.parse_problem.message
    found = report.facts.completeness
    return defects_sentence(found) if is_refused(found, parameters) else ""


def _as_problem(finding: parser_pb2.Finding) -> fetch_pb2.Problem:
    unable = finding.reason in _UNABLE
    return new_problem(
        reason_of(finding.reason) or Reason.INTERNAL,
        finding.message,
        fetch_pb2.PROBLEM_CLASS_UNAVAILABLE if unable else fetch_pb2.PROBLEM_CLASS_MISSING,
    )


def _due(inspection: fetch_pb2.VolumeInspection, claim: Claim, rules: VolumeRules, today: float) -> float:
    """When to inspect next: at once for the first time, after a growing pause when the last one failed.

    A volume that one node or Pod may mount at a time is left to those who use the model once that was found.
    """
    if not inspection.number:
        return 0.0
    if not inspection.failures and not claim.shared:
        return math.inf
    key = f"{inspection.subject}/{inspection.number}"
    pause = spread(key, rules.inspect_seconds)
    if inspection.failures:
        pause = growing_pause(key, inspection.failures, rules.retry_initial_seconds, rules.retry_max_seconds)
    since: float = inspection.inspected_at.ToMilliseconds() / 1000
    # An inspection in the future shows that a clock was set since; the next one is dated by the clock as it is now.
    return since + pause if since <= today + _CLOCKS_DIFFER_SECONDS else today


def _problem(
    place: ClaimDirectory, inspection: fetch_pb2.VolumeInspection, running: Job | None, due: float, now: float
) -> fetch_pb2.Problem | None:
    if inspection.HasField("problem"):
        problem = fetch_pb2.Problem()
        problem.CopyFrom(inspection.problem)
        problem.message = f"{describe(place)}: {problem.message}"
        problem.retry_at.FromMilliseconds(int(due * 1000))
        return problem
    if inspection.HasField("found_at"):
        return None
    if running is not None and running.waiting and now >= running.known_since + _SILENCE_SECONDS:
        return _as_problem(running.waiting)
    return fetch_pb2.Problem(
        reason=model_pb2.REASON_RESOLVING, message=f"waiting for a Job to inspect {describe(place)}"
    )


def delete_job(job: Job, reason: str) -> DeleteJob:
    """The end of a Job that is of no use."""
    return DeleteJob(job.namespace, job.name, job.uid, reason)

"""Decides whether what a source lists is fetched: what names prove to be incomplete is not, unless the model says so.

The judgement is libs/artifact/completeness.py's; here it meets a listing, and what storage.parameters allow.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from libs.artifact.completeness import Evidence, Verdict, is_index, judge, names_in_index
from libs.artifact.errors import InvalidValue
from libs.artifact.findings import Remark
from libs.artifact.manifest import Manifest
from libs.artifact.metadata_files import MAX_INDEX_BYTES
from libs.artifact.reasons import Reason
from libs.artifact.uri import ALLOW_INCOMPLETE
from libs.chassis.errors import Missing, ServiceError
from libs.model.findings import completeness_message, is_refused
from services.fetcher.sources.backend import Listing, Source
from services.fetcher.sources.evidence import read_files
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.egress import Rule

# As many as .status.warnings holds.
_MOST_WARNINGS = 16


@dataclass(frozen=True)
class Admitted:
    """A listing that is to be fetched, what a person should know about it, and what its names prove."""

    manifest: Manifest
    warnings: tuple[Remark, ...]
    verdict: Verdict


def admit(
    listing: Listing, source: Source, name: str, parameters: Mapping[str, str], stop: StopFlag, egress: Rule
) -> Admitted:
    """The listing of a source, judged. Raises Missing Incomplete. Blocks where an index has to be read."""
    verdict = _judge(listing.manifest, source, stop, egress)
    if is_refused(completeness_message(verdict), parameters):
        raise Missing(Reason.INCOMPLETE, f"{name}: {verdict.message}; {ADVICE}")
    return Admitted(listing.manifest, (listing.warnings + verdict.doubts)[:_MOST_WARNINGS], verdict)


ADVICE = f'mend the source, or set parameters.{ALLOW_INCOMPLETE} to "true"'


def _judge(manifest: Manifest, source: Source, stop: StopFlag, egress: Rule) -> Verdict:
    sizes = {file.path: file.size_bytes for file in manifest.files}
    verdict = judge(Evidence(sizes))
    if not verdict.undecided or verdict.whole is False:
        return verdict
    files = {file.path: file for file in manifest.files if file.path in verdict.undecided}
    try:
        origin = source.origin(manifest.source_revision)
    except (ServiceError, InvalidValue):
        # Whoever fetches will hear of it; here it only leaves the question open.
        return verdict
    read = read_files(origin, files, MAX_INDEX_BYTES, stop, egress)
    if read is None:
        return verdict
    indexes = {path: names_in_index(path, data) for path, data in read.items() if is_index(path)}
    documents = {path: _document(data) for path, data in read.items() if not is_index(path)}
    return judge(Evidence(sizes, indexes, documents))


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}

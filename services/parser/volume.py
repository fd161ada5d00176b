"""Looks for a model in a mounted volume and says what is there: python -m services.parser inspect-volume.

A Job runs this where the volume can be mounted, and the report is the termination message of its container, so that the
Job needs neither a network nor an identity. Reads below the mount only. Must not interpret what it reads.
"""

import argparse
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from libs.artifact.model_directory import is_left_alone
from libs.artifact.places import STATE_DIRECTORY, leads_into_state
from libs.model.reasons import number_of
from ome.model.v1 import model_pb2
from ome.parser.v1.parser_pb2 import Finding, InspectionReport
from services.parser.errors import ParseError
from services.parser.inspection import read_files
from services.parser.intake import take_in
from services.parser.parsing import parse_directory
from services.parser.report import encode_report


def main(arguments: Sequence[str]) -> int:
    """Write the report; returns the exit code, which tells whether there is a report and not what it says."""
    options = _options(arguments)
    report = inspect(options.mount, options.path, options.schema_path, parse=not options.skip_parsing)
    options.report.write_bytes(encode_report(report))
    return 0


def inspect(mount: str, path: str, schema_path: str = "", parse: bool = True) -> InspectionReport:
    """What there is at a path relative to the mount; not even links lead out of the mount."""
    root = os.path.realpath(mount)
    place = os.path.realpath(os.path.join(root, path))
    shown = f"directory {path!r}" if path else "volume"
    if place != root and not place.startswith(root.rstrip("/") + "/"):
        return _problem(model_pb2.REASON_INVALID_PATH, f"{path!r} is a link that leads out of the volume")
    if leads_into_state(place.removeprefix(root)):
        return _problem(
            model_pb2.REASON_INVALID_PATH,
            f"{path!r} leads into {STATE_DIRECTORY}, where OME keeps the files of other models",
        )
    try:
        with os.scandir(place) as entries:
            empty = all(is_left_alone(entry) for entry in entries)
    except FileNotFoundError:
        return _problem(model_pb2.REASON_NOT_FOUND, f"the volume has no {shown}")
    except NotADirectoryError:
        return _problem(
            model_pb2.REASON_NOT_FOUND, f"{path!r} is a file of the volume; name the directory that holds it"
        )
    except PermissionError:
        return _problem(
            model_pb2.REASON_FORBIDDEN,
            f"user {os.geteuid()}, as whom volumes are inspected, may not read the {shown}; let everyone read it",
        )
    except OSError as error:
        return _problem(model_pb2.REASON_DISK_ERROR, f"the {shown} cannot be read: {error.strerror}")
    if empty:
        return _problem(model_pb2.REASON_NOT_FOUND, f"the {shown} is empty")
    return _parse(place, root, schema_path) if parse else InspectionReport()


def _parse(place: str, root: str, schema_path: str) -> InspectionReport:
    report = InspectionReport()
    count = _Count()
    try:
        directory = take_in(count.each(read_files(place, schema_path, boundary=root)), schema_path)
        report.files, report.bytes = count.files, count.bytes
        report.facts.CopyFrom(parse_directory(directory))
    except ParseError as error:
        # Names in it may be of any bytes.
        message = error.message.encode(errors="replace").decode()
        report.parse_problem.CopyFrom(Finding(reason=number_of(error.reason), message=message))
    except OSError as error:
        return _problem(model_pb2.REASON_DISK_ERROR, f"the volume cannot be read: {error.strerror}")
    return report


class _Count:
    """Counts files on their way."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0

    def each(self, files: Iterable[tuple[str, int, bytes]]) -> Iterator[tuple[str, int, bytes]]:
        for file in files:
            self.files += 1
            self.bytes += file[1]
            yield file


def _problem(reason: model_pb2.Reason, message: str) -> InspectionReport:
    return InspectionReport(problem=Finding(reason=reason, message=message))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.parser inspect-volume", allow_abbrev=False)
    parser.add_argument("--mount", required=True, help="where the volume is mounted")
    parser.add_argument("--path", default="", help="directory of the model, relative to the mount")
    parser.add_argument("--schema-path", default="", help="configuration to read instead of config.json")
    parser.add_argument("--skip-parsing", action="store_true", help="only look whether there is anything")
    parser.add_argument("--report", required=True, type=Path, help="file to write the report to")
    return parser.parse_args(arguments)

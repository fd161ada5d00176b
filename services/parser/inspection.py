"""Parses a directory of this machine and prints its facts as JSON: python -m services.parser inspect DIR.

Must not interpret what it reads.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence

from google.protobuf.json_format import MessageToJson

from libs.artifact.model_directory import UnreadableFile, UnreadableFolder, read_model_directory
from services.parser.errors import FORBIDDEN, INVALID_LISTING, NO_CONFIG, ParseError
from services.parser.intake import take_in
from services.parser.parsing import parse_directory

EXIT_NO_FACTS = 3


def main(arguments: Sequence[str]) -> int:
    """Print the facts of a directory, or why there are none; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m services.parser inspect",
        description="Prints the facts of a model's directory as JSON. Exits with 0, with 3 and a reason if there are "
        "no facts, and with 2 for wrong arguments.",
    )
    parser.add_argument("directory", metavar="DIR", help="directory of the model")
    parser.add_argument(
        "--schema-path", metavar="FILE", default="", help="configuration to read instead of config.json, below DIR"
    )
    options = parser.parse_args(arguments)
    root, schema_path = options.directory, options.schema_path
    try:
        facts = parse_directory(take_in(read_files(root, schema_path, _boundary(root)), schema_path))
    except ParseError as error:
        print(json.dumps({"error": {"reason": error.reason, "message": error.message}}))
        return EXIT_NO_FACTS
    print(MessageToJson(facts, indent=2))
    return 0


def read_files(root: str, schema_path: str = "", boundary: str = "") -> Iterator[tuple[str, int, bytes]]:
    """The files below root: path, size in bytes, and the first bytes that the parser wants of it.

    Links are followed to files below boundary, which is root itself unless it is given. Raises ParseError when root or
    a file whose content is wanted cannot be read.
    """
    if not os.path.isdir(root):
        raise ParseError(NO_CONFIG, f"{root} is not a directory")
    try:
        for file in read_model_directory(root, schema_path, boundary):
            yield file.path, file.size_bytes, file.data
    except UnreadableFolder as error:
        raise ParseError(INVALID_LISTING, f"{error.filename} cannot be read: {error.strerror}") from error
    except UnreadableFile as error:
        raise ParseError(FORBIDDEN, f"{error.filename} may not be read by user {os.geteuid()}") from error


def _boundary(root: str) -> str:
    """How far links may lead: the folder itself, or the repository in a Hugging Face cache that it is a snapshot of."""
    snapshots = os.path.dirname(os.path.realpath(root))
    return os.path.dirname(snapshots) if os.path.basename(snapshots) == "snapshots" else root

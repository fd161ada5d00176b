"""Asks a source for the checksums that its listing lacks, many at a time, and for no more once it has refused one."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile


def add_checksums(
    files: Sequence[ManifestFile],
    lacking: Sequence[ManifestFile],
    ask: Callable[[ManifestFile], tuple[ChecksumAlgorithm, str]],
    at_once: int,
) -> list[ManifestFile]:
    """The files, those of `lacking` with what `ask` answers. Blocks until nobody asks any more.

    Raises an error of `ask`: a file without its checksum would be another artifact than the same file on a better day.
    """
    refused = threading.Event()

    def ask_unless_refused(file: ManifestFile) -> ManifestFile:
        if refused.is_set():
            return file
        with ExitStack() as unless_answered:
            unless_answered.callback(refused.set)
            algorithm, checksum = ask(file)
            unless_answered.pop_all()
        return replace(file, algorithm=algorithm, checksum=checksum)

    with ThreadPoolExecutor(at_once, thread_name_prefix="checksum") as executor:
        checked = {file.path: file for file in executor.map(ask_unless_refused, lacking)}
    return [checked.get(file.path, file) for file in files]

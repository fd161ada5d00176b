"""Which held files ought to have the content of wanted ones, by what their records say. Reads none of them."""

from collections.abc import Iterable

from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile
from services.fetcher.store.record import Record

# What tells one content from another, whatever the file is called: size, algorithm and checksum.
_Content = tuple[int, ChecksumAlgorithm, str]


def equal_files(wanted: Manifest, held: Iterable[tuple[str, Record]]) -> dict[int, str]:
    """Names of held files by the index of the wanted file that has the same content.

    `held` gives the directory of each artifact with its record, read one at a time. A checksum that does not identify,
    as a CRC, makes no two files equal.
    """
    contents = {_content_of(file) for file in wanted.files if file.algorithm.identifies}
    found: dict[_Content, str] = {}
    for directory, record in held:
        for file in record.manifest.files:
            content, received = _content_of(file), record.received.get(file.path)
            if received and not file.algorithm.identifies:
                content = file.size_bytes, ChecksumAlgorithm.SHA256, received
            if content in contents:
                found.setdefault(content, f"{directory}/{file.path}")
    if not found:
        return {}
    names = ((index, found.get(_content_of(file))) for index, file in enumerate(wanted.files))
    return {index: name for index, name in names if name}


def _content_of(file: ManifestFile) -> _Content:
    return file.size_bytes, file.algorithm, file.checksum

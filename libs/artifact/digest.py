"""Artifact digests: "sha256:" and 64 lower-case hexadecimal digits, as in the OCI image specification."""

import re

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether text is a well-formed artifact digest."""
    return _DIGEST.fullmatch(text) is not None


def digest_directory(digest: str) -> str:
    """Name of the directory that holds an artifact: the digest with "-" for ":", which some tools take for a host."""
    if not is_digest(digest):
        raise ValueError(f"{digest!r} is not an artifact digest")
    return digest.replace(":", "-")

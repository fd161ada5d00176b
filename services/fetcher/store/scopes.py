"""Who may have an artifact's bytes without fetching them: the trust scopes that have brought or proven it.

An equal checksum proves nothing: a source that lists the checksums of somebody else's private model need not have the
files. So each artifact has a small record, scopes/<digest>.json below a root's state directory: a list of the names of
scopes, the newest last. An artifact from before these records has none, and is proven by whoever wants it next.

What a scope means is the controller's: names are compared here, and nothing else.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from libs.artifact.digest import digest_directory, is_digest
from services.fetcher.store.files import UNFINISHED_SUFFIX, write_durably

# Each rotation of a Secret makes a scope. Who is forgotten proves the artifact once more.
_MOST_SCOPES = 64


@dataclass(frozen=True)
class Claimant:
    """The model on whose behalf bytes are wanted, and its scopes: the first names its own source and credentials."""

    uid: str
    scopes: tuple[str, ...]

    def staging(self, digest: str) -> str:
        """Name of the staging that the model shares with those of its own scope: what lies there is not proven yet."""
        return f"{digest_directory(digest)}.{hashlib.sha256(self.scopes[0].encode()).hexdigest()[:16]}"


def claimant_of(uid: str, scopes: Collection[str]) -> Claimant:
    """The claimant that a model is; one of which no scope is known shares with nobody."""
    return Claimant(uid, tuple(scopes) or (f"model/{uid}",))


class Scopes:
    """The records below one directory, by the artifact's digest."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._scopes: dict[str, tuple[str, ...]] = {}
        # Digests and scopes whose ranges did not match: chance does not get a second try.
        self._refuted: set[tuple[str, str]] = set()

    def load(self) -> None:
        """Read all records. One that makes no sense is dropped: the artifact is proven again."""
        for unfinished in self.directory.glob(f"*{UNFINISHED_SUFFIX}"):
            unfinished.unlink()
        for record in self.directory.glob("*.json"):
            digest = record.stem.replace("-", ":", 1)
            try:
                scopes = tuple(map(str, json.loads(record.read_bytes())))
            except (ValueError, TypeError):
                scopes = ()
            if is_digest(digest) and scopes:
                self._scopes[digest] = scopes
            else:
                record.unlink()

    def digests(self) -> set[str]:
        """The artifacts of which there are records."""
        return set(self._scopes)

    def include(self, digest: str, claimant: Claimant) -> bool:
        """Whether one of a claimant's scopes has brought or proven an artifact."""
        return not set(claimant.scopes).isdisjoint(self._scopes.get(digest, ()))

    def grant(self, digest: str, claimant: Claimant) -> None:
        """A claimant has brought or proven all of an artifact. Durable when this returns."""
        before = self._scopes.get(digest, ())
        after = (*(scope for scope in before if scope not in claimant.scopes), *claimant.scopes)[-_MOST_SCOPES:]
        if set(after) != set(before):
            write_durably(self._record(digest), json.dumps(after).encode())
            self._scopes[digest] = after

    def refute(self, digest: str, claimant: Claimant) -> None:
        """What a claimant's source has sent is not what lies here."""
        self._refuted.add((digest, claimant.scopes[0]))

    def is_refuted(self, digest: str, claimant: Claimant) -> bool:
        """Whether that is known of the claimant's source."""
        return (digest, claimant.scopes[0]) in self._refuted

    def forget(self, digest: str) -> None:
        """The artifact is gone. Idempotent."""
        self._refuted = {each for each in self._refuted if each[0] != digest}
        if self._scopes.pop(digest, None):
            # A power cut may bring the record back: what it says is true, and it goes when leftovers are collected.
            self._record(digest).unlink(missing_ok=True)

    def _record(self, digest: str) -> Path:
        return self.directory / f"{digest_directory(digest)}.json"

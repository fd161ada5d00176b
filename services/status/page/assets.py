"""The files that browsers load: styles, scripts and vendored libraries, under addresses that name their content.

Read once. One digest stands for all of them, so that scripts can import each other by relative names, and a browser
keeps them until any of them changes.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

_FOREVER = "public, max-age=31536000, immutable"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".LICENSE": "text/plain"}


@dataclass(frozen=True)
class Asset:
    """One file."""

    content: bytes
    media_type: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers that it is sent with."""
        return {"Cache-Control": _FOREVER, "Content-Type": self.media_type}


class Assets:
    """The files by their path below `static`."""

    def __init__(self) -> None:
        self._assets = dict(_read(files("services.status.page") / "static", ""))
        everything = hashlib.sha256()
        for path, asset in sorted(self._assets.items()):
            everything.update(f"{path} {len(asset.content)} ".encode() + asset.content)
        self._digest = everything.hexdigest()[:16]

    def address(self, path: str) -> str:
        """Where a browser finds a file. Raises LookupError for one that there is not."""
        if path not in self._assets:
            raise LookupError(f"{path} is not below static")
        return f"/static/{self._digest}/{path}"

    def get(self, digest: str, path: str) -> Asset | None:
        """A file, if the files still have this digest."""
        return self._assets.get(path) if digest == self._digest else None


def _read(folder: Traversable, prefix: str) -> list[tuple[str, Asset]]:
    found = []
    for entry in folder.iterdir():
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            found += _read(entry, f"{path}/")
        elif path.endswith(tuple(_TYPES)):
            media_type = next(each for ending, each in _TYPES.items() if path.endswith(ending))
            found.append((path, Asset(entry.read_bytes(), f"{media_type}; charset=utf-8")))
    return found

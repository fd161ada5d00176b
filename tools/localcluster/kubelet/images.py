"""Decides which local program an image name stands for; a name that is not known cannot be pulled."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]

# The services that are installed from this repository's charts, by the repository part of their image.
OUR_IMAGES: Mapping[str, Sequence[str]] = {
    f"ome/{service}": ("python", "-m", f"services.{service}")
    for service in ("controller", "fetcher", "parser", "status")
}


class UnknownImage(Exception):
    """No program stands for this image."""


class Images:
    def __init__(self, extra: Mapping[str, Sequence[str]]) -> None:
        self._entry_points = {**OUR_IMAGES, **extra}

    def command(self, image: str, command: Sequence[str], arguments: Sequence[str]) -> list[str]:
        """What to execute: a container's `command` replaces the image's entry point, as in Kubernetes."""
        repository = repository_of(image)
        if repository not in self._entry_points:
            raise UnknownImage(
                f"no local program stands for image {image!r}; known are {', '.join(sorted(self._entry_points))}"
            )
        entry_point = list(command) or list(self._entry_points[repository])
        if entry_point[0] in ("python", "python3"):
            entry_point[0] = sys.executable
        return [*entry_point, *arguments]

    def variables(self, home: Path) -> dict[str, str]:
        """The environment that an image brings: nothing of the harness' own environment shines through."""
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "TMPDIR": str(home),
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'proto'}",
        }


def repository_of(image: str) -> str:
    """An image without registry, tag and digest: `registry.example:5000/ome/parser:1.2` is `ome/parser`."""
    name = image.partition("@")[0]
    parts = name.split("/")
    parts[-1] = parts[-1].partition(":")[0]
    if len(parts) > 1 and ("." in parts[0] or ":" in parts[0] or parts[0] == "localhost"):
        parts = parts[1:]
    return "/".join(parts)

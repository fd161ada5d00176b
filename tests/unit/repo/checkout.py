"""The checkout that the tests of this folder look at: its files and its Python modules as syntax trees."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
GENERATED_SUFFIXES = ("_pb2.py", "_pb2_grpc.py", "_pb2.pyi")


@dataclass(frozen=True)
class Module:
    """One Python file of ours; path is relative to the repository."""

    path: Path
    tree: ast.Module

    @property
    def top(self) -> str:
        return self.path.parts[0]

    @property
    def name(self) -> str:
        """The dotted name by which others import it."""
        return ".".join(self.path.with_suffix("").parts).removesuffix(".__init__")

    def imports(self) -> set[str]:
        """Dotted names of everything imported anywhere in the file, also inside functions.

        `from a import b` counts as a and as a.b, since b may be a module.
        """
        names: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
        return names


@cache
def files(pattern: str = "*") -> tuple[Path, ...]:
    """Files that git tracks or would track, relative to the repository; pattern is git's, where * crosses folders."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", pattern],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = (Path(name) for name in sorted(set(listing.stdout.split("\0")) - {""}))
    return tuple(path for path in paths if (ROOT / path).is_file())


@cache
def modules() -> tuple[Module, ...]:
    """Every Python file that a person wrote."""
    return tuple(
        Module(path, ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path)))
        for path in files("*.py")
        if not path.name.endswith(GENERATED_SUFFIXES)
    )


def modules_below(*folders: str) -> Iterator[Module]:
    """The modules whose path starts with one of the folders."""
    return (module for module in modules() if str(module.path).startswith(folders))

"""The files of the repository that the checks read."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tracked_files(root: Path = ROOT) -> list[Path]:
    """Files that git tracks or would track, in their order; links and what is deleted but not yet committed are not
    among them.
    """
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = (root / name for name in sorted(set(listing.stdout.split("\0")) - {""}))
    return [path for path in paths if path.is_file() and not path.is_symlink()]

"""Packs the kubectl plugin for krew: an archive, and the manifest that names it by its SHA-256.

    make package
    python -m tools.krew --uri https://example.com/releases/ome-models.tar.gz
    kubectl krew install --manifest dist/krew/ome-models.yaml --archive dist/krew/ome-models.tar.gz

Source of the manifest's form: https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest. The archive is the same
bytes for the same plugin. Must not upload anything.
"""

import argparse
import gzip
import hashlib
import io
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from libs.artifact.version import VERSION

# krew finds the executable by this name with "-" as "_".
NAME = "ome-models"
BINARY = "kubectl-ome_models"
LICENCE = "LICENSE"
# What the executable was built for: pure Python runs wherever there is a shell to start it.
_SYSTEMS = ("linux", "darwin")


def manifest(uri: str, sha256: str, version: str = VERSION) -> dict[str, Any]:
    """The manifest of a plugin whose archive is at a URI."""
    return {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": NAME},
        "spec": {
            "version": f"v{version}",
            "shortDescription": "Shows where base models are, what moves, and why",
            "description": (
                "Shows which nodes of a cluster hold which base models, what is on its way, and why something is not.\n"
                "Has nodes verify their copies, give them up, and fetch them again. Works through the API server\n"
                "with your own kubeconfig and rights; OME Base Models must be installed in the cluster.\n"
            ),
            "caveats": "The plugin needs Python 3.11 or newer as python3.11 or python3 in your PATH.\n",
            "platforms": [
                {
                    "selector": {"matchLabels": {"os": system}},
                    "uri": uri,
                    "sha256": sha256,
                    "bin": BINARY,
                    "files": [{"from": BINARY, "to": "."}, {"from": LICENCE, "to": "."}],
                }
                for system in _SYSTEMS
            ],
        },
    }


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar.gz of executables by name, without times and owners of this machine."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if name == BINARY else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def main(arguments: Sequence[str]) -> int:
    """Write archive and manifest; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.krew", description="Packs the kubectl plugin for krew.")
    parser.add_argument("--plugin", type=Path, default=Path("dist") / BINARY, help="what make package has built")
    parser.add_argument("--licence", type=Path, default=Path(LICENCE), help="the text that goes with it")
    parser.add_argument("--uri", required=True, help="where the archive will be")
    parser.add_argument("--out", type=Path, default=Path("dist") / "krew", help="folder to write to")
    options = parser.parse_args(arguments)
    missing = [path for path in (options.plugin, options.licence) if not path.is_file()]
    if missing:
        print(f"{missing[0]} does not exist; make package builds the plugin", file=sys.stderr)
        return 1
    packed = archive({BINARY: options.plugin.read_bytes(), LICENCE: options.licence.read_bytes()})
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{NAME}.tar.gz").write_bytes(packed)
    document = manifest(options.uri, hashlib.sha256(packed).hexdigest())
    (options.out / f"{NAME}.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

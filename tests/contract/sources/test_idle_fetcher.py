"""What a fetcher has in memory that was not asked for any source yet."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SDKS = {"hf_xet", "huggingface_hub", "oci", "obstore"}
PROGRAM = f"""
import sys
import services.fetcher.main
from services.fetcher.settings import SourceSettings
from services.fetcher.sources.catalogue import Sources, backends

def loaded():
    return sorted({{name.partition(".")[0] for name in sys.modules}} & {SDKS!r})

sources = Sources(SourceSettings())
print(len(backends()), loaded())
for uri in ("hf://org/model", "s3://bucket/model", "oci://n/a/b/c/o/d", "vendor://acme/models/x"):
    assert sources.read_in_place(uri) is uri.startswith("vendor://")
sources.streams("hf://org/model", {{}}, {{}}, "main")
print(loaded())
"""


def test_an_idle_fetcher_knows_all_backends_and_has_imported_no_sdk() -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder) for folder in (ROOT, ROOT / "proto"))}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environ, cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    first, second = found.stdout.splitlines()
    count, _, loaded = first.partition(" ")
    assert int(count) >= 4
    assert (loaded, second) == ("[]", "[]")

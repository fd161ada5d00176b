"""Programs of a Kubernetes installation for tests that need one of them rather than a whole cluster."""

import functools
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tools.localcluster.builds import Builder
from tools.localcluster.charts import images_of
from tools.localcluster.programs import Programs, obtain

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "deploy" / "helm"


@functools.cache
def programs() -> Programs:
    """Every program of the local cluster; those that this machine lacks are built first, which takes minutes once."""
    return obtain(Builder(os.environ).build, os.environ)


def run(
    program: str, *arguments: str, stdin: str = "", check: bool = True, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it printed; a failure shows its error output."""
    found = subprocess.run(
        [programs()[program], *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environ},
        check=False,
    )
    assert not check or found.returncode == 0, f"{program} {' '.join(arguments)}: {found.stderr}"
    return found


def image_values(chart: str) -> list[str]:
    """Arguments of helm without which a chart that is installed alone does not know where its images are."""
    return [word for value, name in images_of(chart).items() for word in ("--set", f"{value}.repository=ome/{name}")]


def render(chart: str, *arguments: str) -> list[dict[str, Any]]:
    """The objects that a chart installs into namespace ome."""
    values = (*image_values(chart), *arguments)
    output = run("helm", "template", f"ome-{chart}", str(CHARTS / chart), "--namespace", "ome", *values).stdout
    return [document for document in yaml.safe_load_all(output) if document]

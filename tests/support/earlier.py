"""The services and charts of an earlier commit in a local cluster. Its processes run on the present requirements."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.localcluster.charts import SERVICES, images_of, merged
from tools.localcluster.cluster import LocalCluster

REPOSITORY = "earlier"


def images(folder: Path) -> dict[str, list[str]]:
    """What stands for the images of the commit in a local cluster: its services, by repository."""
    path = f"PYTHONPATH={folder}:{folder / 'proto'}"
    return {
        f"{REPOSITORY}/{service}": ["/usr/bin/env", path, sys.executable, "-m", f"services.{service}"]
        for service in SERVICES
    }


def install(
    cluster: LocalCluster, folder: Path, charts: Sequence[str], more: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Install charts of the commit, or change to them, and wait until all are ready; `images` must stand for them.

    The values are those of the commit's own harness and, by chart, what a test adds.
    """
    values = _values(cluster, folder)
    cluster.install_from(
        folder / "deploy" / "helm",
        {chart: merged(merged(values[chart], _images_in(chart)), (more or {}).get(chart, {})) for chart in charts},
    )


def _values(cluster: LocalCluster, folder: Path) -> dict[str, dict[str, Any]]:
    script = (
        "import json, sys\n"
        "from tools.localcluster.charts import local_values\n"
        "nats, hub, addresses = json.load(sys.stdin)\n"
        "json.dump(local_values(nats, hub, addresses.__getitem__), sys.stdout)\n"
    )
    addresses = {name: cluster.service_address(name, 0).partition(":")[0] for name in ("ome-parser", "ome-status")}
    found: dict[str, dict[str, Any]] = asked(folder, script, [cluster.nats_url, cluster.hub_url, addresses])
    return found


def asked(folder: Path, script: str, question: Any) -> Any:
    """What a script says with the modules of the commit; it reads the question and writes the answer, both as JSON."""
    said = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": f"{folder}:{folder / 'proto'}", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=folder,
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return json.loads(said)


def _images_in(chart: str) -> dict[str, Any]:
    return {value: {"repository": f"{REPOSITORY}/{service}"} for value, service in images_of(chart).items()}

"""Writes what the chart `ome` renders into deploy/kustomize: `python -m tools.bootstrap.kustomize OUT`.

The file is committed (OUT = deploy/kustomize); a test writes it elsewhere and compares.
"""

import argparse
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tools.localcluster.builds import Builder
from tools.localcluster.programs import obtain

_REPOSITORY = Path(__file__).resolve().parents[2]
_NOTE = "# Written by make kustomize from deploy/helm and values.yaml: change those.\n"
_HOOK = "helm.sh/hook"
_LABELS_OF_HELM = ("app.kubernetes.io/managed-by", "helm.sh/chart")
# A finished Job cannot be changed, only made anew.
_KEPT_SECONDS = 300


def render(helm: Path, registry: str = "") -> list[dict[str, Any]]:
    """The objects of the chart with the values of deploy/kustomize, and with another registry if one is given."""
    chart = _REPOSITORY / "deploy" / "helm" / "ome"
    command: list[str | Path] = [helm, "template", "ome", chart, "--namespace", "ome"]
    values = _REPOSITORY / "deploy" / "kustomize" / "values.yaml"
    command += ["--values", values, *(("--set", f"global.imageRegistry={registry}") if registry else ())]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [item for item in yaml.safe_load_all(rendered) if item]


def without_helm(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What of these objects means something without helm: its tests go, and its hooks become ordinary objects."""
    kept = []
    for item in items:
        metadata = _without_marks(item["metadata"])
        if (item["metadata"].get("annotations") or {}).get(_HOOK) == "test":
            continue
        plain = {**item, "metadata": metadata}
        if template := item.get("spec", {}).get("template"):
            marked = {**template, "metadata": _without_marks(template["metadata"])}
            plain["spec"] = {**item["spec"], "template": marked}
        if item["kind"] == "Job":
            plain["spec"]["ttlSecondsAfterFinished"] = _KEPT_SECONDS
        kept.append(plain)
    return kept


def _without_marks(metadata: dict[str, Any]) -> dict[str, Any]:
    parts = {
        "labels": {name: text for name, text in metadata.get("labels", {}).items() if name not in _LABELS_OF_HELM},
        "annotations": {
            name: text for name, text in (metadata.get("annotations") or {}).items() if not name.startswith(_HOOK)
        },
    }
    rest = {name: each for name, each in metadata.items() if name not in parts}
    return rest | {name: part for name, part in parts.items() if part}


def write(helm: Path, out: Path) -> None:
    """Write services.yaml into a directory. What the chart of the CRDs holds, kustomize reads where it is."""
    items = [item for item in render(helm) if "helm.sh/chart" in item["metadata"].get("labels", {})]
    text = yaml.safe_dump_all(without_helm(items), sort_keys=False, width=120, allow_unicode=True)
    out.joinpath("services.yaml").write_text(_NOTE + text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tools.bootstrap.kustomize", description="Writes what the chart ome renders for kustomize."
    )
    parser.add_argument("out", type=Path, help="directory to write into; deploy/kustomize for the committed file")
    given = parser.parse_args()
    write(obtain(Builder(os.environ).build, os.environ)["helm"], given.out)

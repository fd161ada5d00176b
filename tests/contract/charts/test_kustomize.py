"""deploy/kustomize installs what the chart `ome` installs, and holds nothing secret."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.controller.first_secrets import new_secrets
from tests.support.programs import ROOT, programs, run
from tools.bootstrap import kustomize

pytestmark = pytest.mark.cluster

FOLDER = ROOT / "deploy" / "kustomize"
# Beside the chart's objects: what helm's user makes before it, and who makes certificates instead of helm.
OWN = {
    ("Namespace", "ome"),
    ("Issuer", "ome-self-signed"),
    *((kind, f"ome-{name}") for name in ("nats", "parser", "status") for kind in ("Issuer",)),
    *(("Certificate", f"ome-{name}-authority") for name in ("nats", "parser", "status")),
}
# Helm looks whether the cluster has the kind already; kubectl would write over that of another product.
LEFT_TO_PEOPLE = {("CustomResourceDefinition", "inferenceservices.ome.io")}


def by_name(items: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(item["kind"], item["metadata"]["name"]): item for item in items}


@pytest.fixture(scope="module")
def built() -> dict[tuple[str, str], dict[str, Any]]:
    """What `kubectl apply -k` sends."""
    return by_name([item for item in yaml.safe_load_all(run("kubectl", "kustomize", str(FOLDER)).stdout) if item])


def test_the_file_is_what_the_chart_renders(tmp_path: Path) -> None:
    kustomize.write(programs()["helm"], tmp_path)
    assert (FOLDER / "services.yaml").read_text() == (tmp_path / "services.yaml").read_text(), "run: make kustomize"


def test_it_is_what_helm_installs(built: dict[tuple[str, str], dict[str, Any]]) -> None:
    installed = by_name(kustomize.without_helm(kustomize.render(programs()["helm"], "registry.example.com")))

    assert set(built) - set(installed) == OWN
    assert set(installed) - set(built) == LEFT_TO_PEOPLE
    for key, item in installed.items():
        if key in LEFT_TO_PEOPLE:
            continue
        # Labels of the CRDs' chart say nothing of helm.
        assert built[key] == item, key


def test_every_secret_that_a_pod_needs_is_made_in_the_cluster(built: dict[tuple[str, str], dict[str, Any]]) -> None:
    made = {item["spec"]["secretName"] for (kind, _), item in built.items() if kind == "Certificate"} | set(
        new_secrets()
    )
    needed = set()
    for item in built.values():
        pod = item.get("spec", {}).get("template", {}).get("spec", {})
        needed |= {each["secret"]["secretName"] for each in pod.get("volumes", []) if "secret" in each}
        for container in pod.get("containers", []):
            sources = (each.get("valueFrom", {}).get("secretKeyRef") for each in container.get("env", []))
            needed |= {source["name"] for source in sources if source}

    assert needed
    assert needed <= made
    assert "Secret" not in {kind for kind, _ in built}


def test_no_model_may_name_a_secret_of_an_authority(built: dict[tuple[str, str], dict[str, Any]]) -> None:
    made = {item["spec"]["secretName"] for (kind, _), item in built.items() if kind == "Certificate"}
    [controller, _] = built["Deployment", "ome-controller"]["spec"]["template"]["spec"]["containers"]
    [reserved] = [each["value"] for each in controller["env"] if each["name"] == "OME_RESERVED_SECRETS"]

    assert made | set(new_secrets()) <= set(reserved.split(","))


def test_one_place_names_the_registry(built: dict[tuple[str, str], dict[str, Any]]) -> None:
    text = json.dumps(list(built.values()))

    assert "registry.invalid" not in text
    assert text.count("registry.example.com/ome/parser:") == 3, "its own, that of Jobs, and that of their policy"

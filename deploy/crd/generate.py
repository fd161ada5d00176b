"""Writes the CRDs of the Helm chart from one description, so that what the kinds share is said once.

Run it after a change: .venv/bin/python -m deploy.crd.generate. A test compares the chart with what it would write.
"""

import argparse
from pathlib import Path

import yaml

from deploy.crd.inference import inference_service
from deploy.crd.models import base_model_spec, fine_tuned_weight_spec, model_status
from deploy.crd.schema import Schema
from deploy.crd.unknown_fields import keep_until_admission, policy

TEMPLATES = Path(__file__).parent.parent / "helm" / "crds" / "templates"
# What the chart installs only if nobody else has.
FILES = TEMPLATES.parent / "files"
_HEADER = "# Written by deploy/crd/generate.py, which is the place to change it.\n"

_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _column(name: str, path: str, *, wide: bool = False) -> Schema:
    return {"name": name, "type": "string", "jsonPath": path} | ({"priority": 1} if wide else {})


def _definition(
    kind: str, plural: str, short: str, description: str, spec: Schema, columns: list[Schema], *, scope: str
) -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.ome.io",
            "labels": {"app.kubernetes.io/part-of": "ome"},
            # Uninstalling a chart must not delete every model of the cluster.
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": "ome.io",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["ome", "models"],
            },
            "scope": scope,
            "versions": [
                {
                    "name": "v1beta1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "selectableFields": [{"jsonPath": ".status.state"}],
                    "additionalPrinterColumns": [
                        _column("State", ".status.lifecycle"),
                        _column("Ready", ".status.nodes.summary"),
                        _column("Progress", ".status.progress.percent"),
                        *columns,
                        _AGE,
                        _column("Reason", ".status.reason", wide=True),
                        _column("URI", ".spec.storage.storageUri", wide=True),
                        _column("Path", ".status.path", wide=True),
                    ],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": description,
                            "required": ["spec"],
                            "properties": {
                                "apiVersion": {"type": "string", "description": "ome.io/v1beta1"},
                                "kind": {"type": "string", "description": kind},
                                "metadata": {"type": "object"},
                                "spec": keep_until_admission(spec),
                                "status": model_status(weights=kind == "FineTunedWeight"),
                            },
                        }
                    },
                }
            ],
        },
    }


def definitions() -> list[Schema]:
    """The three CustomResourceDefinitions."""
    model_columns = [
        _column("Parameters", ".spec.modelParameterSize"),
        _column("Architecture", ".spec.modelArchitecture"),
    ]
    weight_columns = [
        _column("Base", ".spec.baseModelRef.name"),
        _column("Type", ".spec.modelType"),
        _column("Compatible", ".status.conditions[?(@.type=='Compatible')].status", wide=True),
    ]
    return [
        _definition(
            "BaseModel",
            "basemodels",
            "bm",
            "BaseModel is a foundation model for the workloads of one namespace. OME downloads and verifies it on "
            "every node that its selectors match, and reads facts from its files.",
            base_model_spec(cluster_scoped=False),
            model_columns,
            scope="Namespaced",
        ),
        _definition(
            "ClusterBaseModel",
            "clusterbasemodels",
            "cbm",
            "ClusterBaseModel is a foundation model for the workloads of every namespace. OME downloads and verifies "
            "it on every node that its selectors match, and reads facts from its files.",
            base_model_spec(cluster_scoped=True),
            model_columns,
            scope="Cluster",
        ),
        _definition(
            "FineTunedWeight",
            "finetunedweights",
            "ftw",
            "FineTunedWeight is a set of weights that adapts a base model. OME downloads and verifies it on every node "
            "that its selectors match.",
            fine_tuned_weight_spec(),
            weight_columns,
            scope="Cluster",
        ),
    ]


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def policies() -> list[Schema]:
    """The admission policies that go by the fields of the definitions, with their bindings."""
    return [
        *policy(
            "fields.base.models.ome.io",
            ["basemodels", "clusterbasemodels"],
            base_model_spec(cluster_scoped=True),
        ),
        *policy("fields.weights.models.ome.io", ["finetunedweights"], fine_tuned_weight_spec()),
    ]


def manifests() -> dict[str, str]:
    """File name → content, for the templates of the chart."""
    files = {f"ome.io_{each['spec']['names']['plural']}.yaml": [each] for each in definitions()}
    files["ome.io_fields.yaml"] = policies()
    return {name: _written(documents) for name, documents in files.items()}


def optional_manifests() -> dict[str, str]:
    """File name → content, of definitions that may be somebody else's."""
    return {"ome.io_inferenceservices.yaml": _written([inference_service()])}


def _written(documents: list[Schema]) -> str:
    return _HEADER + yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m deploy.crd.generate", description="Writes the definitions and policies of the chart ome-crds."
    ).parse_args()
    for name, content in manifests().items():
        (TEMPLATES / name).write_text(content)
    FILES.mkdir(exist_ok=True)
    for name, content in optional_manifests().items():
        (FILES / name).write_text(content)


if __name__ == "__main__":
    main()

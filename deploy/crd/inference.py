"""Definition of InferenceService for clusters without OME's own: what names a model, and everything else as it is.

A service of this kind starts no server. It says that a model is to be served, and its status says whether it can be.
"""

from deploy.crd.schema import Schema, integer, listing, structure, text
from libs.model.kinds import INFERENCE_SERVICE

_KEPT = {"x-kubernetes-preserve-unknown-fields": True}


def _spec() -> Schema:
    return structure(
        "What is to be served, and how. OME reads model and keeps all other fields, such as engine, as they are.",
        fields={
            "model": structure(
                "The model to serve.",
                required=["name"],
                fields={
                    "name": text("Name of the model.", minLength=1, maxLength=253),
                    "kind": text(
                        "BaseModel or ClusterBaseModel. Without kind, a BaseModel of this namespace or, if it does not "
                        "exist, a ClusterBaseModel."
                    ),
                    "apiGroup": text("API group of the kind: ome.io."),
                },
                **_KEPT,
            )
        },
        **_KEPT,
    )


def _status() -> Schema:
    condition = structure(
        "One aspect of the service's state.",
        required=["type", "status"],
        fields={
            "type": text("ModelReady: a node holds the model."),
            "status": text("True, False or Unknown."),
            "reason": text("The cause as one word for programs."),
            "message": text("The cause as a sentence for people."),
            "lastTransitionTime": text("Time of the last change of status.", format="date-time"),
        },
        **_KEPT,
    )
    return structure(
        "State of the service.",
        fields={
            "observedGeneration": integer("metadata.generation that this status describes."),
            "model": structure(
                "The model that spec.model means; absent if it does not exist.",
                fields={
                    "kind": text("BaseModel or ClusterBaseModel."),
                    "namespace": text("Namespace of a BaseModel."),
                    "name": text("Name of the model."),
                    "path": text("Where the model lies on the nodes."),
                    "nodes": listing("Nodes that hold the model, at most 50.", text("Name of a node."), maxItems=50),
                },
            ),
            "conditions": listing(
                "Aspects of the state.",
                condition,
                **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
            ),
        },
        **_KEPT,
    )


def inference_service() -> Schema:
    """The CustomResourceDefinition."""

    def column(name: str, path: str, kind: str = "string") -> Schema:
        return {"name": name, "type": kind, "jsonPath": path}

    ready = ".status.conditions[?(@.type=='ModelReady')]"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "inferenceservices.ome.io",
            "labels": {"app.kubernetes.io/part-of": "ome", "models.ome.io/minimal": "true"},
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": "ome.io",
            "names": {
                "kind": INFERENCE_SERVICE,
                "listKind": f"{INFERENCE_SERVICE}List",
                "plural": "inferenceservices",
                "singular": "inferenceservice",
                "shortNames": ["isvc"],
                "categories": ["ome"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1beta1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        column("Model", ".spec.model.name"),
                        column("ModelReady", f"{ready}.status"),
                        column("Reason", f"{ready}.reason"),
                        column("Age", ".metadata.creationTimestamp", "date"),
                    ],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": "InferenceService says that a model is to be served. OME fetches the model "
                            "before others of its priority, and reports whether it is Ready. It starts no server.",
                            "properties": {
                                "apiVersion": {"type": "string", "description": "ome.io/v1beta1"},
                                "kind": {"type": "string", "description": INFERENCE_SERVICE},
                                "metadata": {"type": "object"},
                                "spec": _spec(),
                                "status": _status(),
                            },
                        }
                    },
                }
            ],
        },
    }

"""Schemas of .spec and .status of the three kinds."""

from typing import Any

from deploy.crd.revisions import history_field
from deploy.crd.schema import Schema, flag, free_form, integer, listing, mapping, number, structure, text
from deploy.crd.storage import storage
from deploy.crd.verification import verification_field


def _matching(what: str, example_names: str) -> Schema:
    return structure(
        f"The {what} of the model's files. OME fills in empty fields after it has parsed the model.",
        fields={
            "name": text(f"Name of the {what}, such as {example_names}."),
            "version": text(f"Version of the {what}, such as 1 or 4.36.0."),
            "operator": text(
                "Comparison of the version by a serving runtime: Equal, GreaterThan or GreaterThanOrEqual. OME does "
                "not use it."
            ),
            "weight": integer("Weight of a match in the choice of a serving runtime. OME does not use it."),
        },
    )


def _pipeline_component(what: str) -> Schema:
    return structure(
        f"The {what} of the pipeline.",
        fields={
            "library": text("Library that implements it, such as diffusers or transformers."),
            "type": text("Class that implements it."),
        },
    )


def _product_fields() -> dict[str, Schema]:
    return {
        "vendor": text("Vendor of the model, such as meta, mistral or openai."),
        "version": text('Version of the model, such as "3.1".'),
        "disabled": flag(
            "With true, OME starts no new download. Running downloads finish, and existing copies stay.",
            default=False,
        ),
        "displayName": text("Name of the model for people."),
        "compartmentID": text("Compartment of a cloud that the model belongs to. OME does not use it."),
    }


def base_model_spec(*, cluster_scoped: bool) -> Schema:
    """Spec of BaseModel and ClusterBaseModel, equal but for what a pvc:// URI may say."""
    components = ("scheduler", "textEncoder", "tokenizer", "transformer", "vae")
    names = {"textEncoder": "text encoder", "vae": "VAE"}
    return structure(
        "Description of the model, its source, and the nodes that hold it. When a node has fetched the model, OME "
        "fills in empty descriptive fields from the model's files. OME never changes a field that you set.",
        fields={
            **_product_fields(),
            "modelType": text("Architecture family, such as llama, mistral or deepseek_v3."),
            "modelArchitecture": text(
                "Class that implements the model, such as LlamaForCausalLM or MistralForCausalLM."
            ),
            "modelParameterSize": text(
                "Number of parameters as people write it, such as 7B, 70B or 8x7B. It is not a size in bytes."
            ),
            "maxTokens": integer("Longest context of the model, in tokens.", format="int32", minimum=1),
            "modelCapabilities": listing(
                "Tasks of the model, such as text-to-text, TEXT_GENERATION or EMBEDDING. Any word is accepted.",
                text("One capability.", maxLength=128),
                maxItems=64,
            ),
            "apiCapabilities": listing(
                "APIs that can serve the model, such as OPENAI_V1_CHAT_COMPLETIONS. Any word is accepted.",
                text("One API.", maxLength=128),
                maxItems=64,
            ),
            "modelFormat": _matching("format", "safetensors, onnx or pytorch"),
            "modelFramework": _matching("framework", "transformers, onnx or tensorrt"),
            "quantization": text(
                "Quantization of the weights, such as fp8 (8-bit floating point), fbgemm_fp8 (Facebook GEMM FP8), int4 "
                "(4-bit integers), nvfp4, mxfp4 or compressed-tensors. Any word is accepted.",
                maxLength=128,
            ),
            "storage": storage(cluster_scoped=cluster_scoped),
            "servingMode": listing(
                "Ways to serve the model, such as On-demand or Dedicated. OME does not use them.",
                text("One mode.", maxLength=128),
                maxItems=16,
            ),
            "diffusionPipeline": structure(
                "Parts of a diffusion pipeline. OME does not use them.",
                fields={
                    "className": text("Class of the pipeline, such as StableDiffusionPipeline."),
                    **{name: _pipeline_component(names.get(name, name)) for name in components},
                    "additionalComponents": mapping(
                        "Further parts by name.", _pipeline_component("part"), **{"x-kubernetes-map-type": "atomic"}
                    ),
                },
            ),
            "modelConfiguration": free_form(
                "Configuration of the model: an object, or a string that holds a JSON object. OME keeps it as it is."
            ),
            "additionalMetadata": mapping(
                "Further keys with string values, such as a licence or an owner.", text("Value of the entry.")
            ),
        },
    )


def _reference(description: str, name: str, namespace: str) -> Schema:
    return structure(
        description,
        required=["name"],
        fields={"name": text(name, minLength=1, maxLength=253), "namespace": text(namespace, maxLength=63)},
    )


def fine_tuned_weight_spec() -> Schema:
    """Spec of FineTunedWeight."""
    return structure(
        "Description of weights that adapt a base model, their source, and the nodes that hold them.",
        required=["baseModelRef"],
        fields={
            "baseModelRef": _reference(
                "The model that the weights adapt. If storage has neither nodeSelector nor nodeAffinity, the weights "
                "are on the nodes that the selectors of this model match. The conditions BaseFound and Compatible say "
                "whether it exists and whether the weights fit it.",
                "Name of the BaseModel or ClusterBaseModel.",
                "Namespace of the BaseModel. Without namespace, or if this BaseModel does not exist, the reference "
                "means a ClusterBaseModel.",
            ),
            "modelType": text("Method of fine-tuning, such as LoRA or Adapter."),
            "hyperParameters": free_form(
                "Hyperparameters of the fine-tuning: an object, or a string that holds a JSON object. OME keeps it "
                "as it is."
            ),
            "configuration": free_form(
                "Further configuration: an object, or a string that holds a JSON object. OME keeps it as it is."
            ),
            "storage": storage(cluster_scoped=True),
            "trainingJobRef": _reference(
                "The training job that made the weights. OME does not use it.",
                "Name of the job.",
                "Namespace of the job.",
            ),
            **_product_fields(),
        },
    )


def _condition() -> Schema:
    return structure(
        "One aspect of the model's state.",
        required=["type", "status", "lastTransitionTime", "reason", "message"],
        fields={
            "type": text(
                "Available: at least one node is Ready. Ready: another name of Available. Complete: every node that "
                "must hold the model is Ready. Degraded: a node has failed or is unreachable, or the source has a "
                "problem. Resolved: OME has listed the source, or needs no list. Parsed: OME has read facts from the "
                "files. Whole: the files make up the whole model; False if some are known to be missing or damaged. "
                "Stalled: OME expects no progress until the model, a Secret, a node or the source changes. BaseFound: "
                "the base of a FineTunedWeight exists. Compatible: its weights fit the base; False if the files prove "
                "that they do not. Referenced: FineTunedWeights adapt this model. "
                "RolledOut: all nodes have the same revision; there only once they had not. Following: OME can list "
                "the source that the model follows; there only once it could not.",
                maxLength=316,
            ),
            "status": text(
                "True if the condition holds, False if not, Unknown if OME cannot tell yet.",
                enum=["True", "False", "Unknown"],
            ),
            "observedGeneration": integer(
                "metadata.generation that this condition describes. OME does not set it today.", minimum=0
            ),
            "lastTransitionTime": text("Time of the last change of status.", format="date-time"),
            "reason": text(
                "The cause as one word for programs, such as Downloading or InsufficientDisk. "
                "docs/guides/troubleshooting.md explains all reasons.",
                maxLength=1024,
                minLength=1,
                pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            ),
            "message": text("The cause as a sentence for people, or the condition that tells it.", maxLength=32768),
        },
    )


def _count(description: str) -> Schema:
    return structure(
        description,
        fields={
            "count": integer("Number of parameters. Tied tensors count once."),
            "source": text("Basis of the number: headers, index, formula or estimate."),
            "exact": flag("The number is exact if true, and an estimate if false."),
            "minimum": integer("Lower bound of an estimate."),
            "maximum": integer("Upper bound of an estimate."),
        },
    )


def _facts() -> Schema:
    return structure(
        "Facts from the model's own files, even if spec contradicts them.",
        fields={
            "modelType": text("model_type of config.json, such as llama."),
            "architecture": text("Class that implements the model, such as LlamaForCausalLM."),
            "framework": text("Library that reads the files, such as transformers or diffusers."),
            "frameworkVersion": text("Version of the library that wrote the files."),
            "format": text("Format of the weights, such as safetensors."),
            "formatVersion": text("Version of the format."),
            "dtype": text("Precision of the weights as the configuration states it, such as bfloat16."),
            "quantization": structure(
                "Packing of the weights.",
                fields={
                    "specValue": text("Word for spec.quantization; empty if there is none."),
                    "method": text("Method as the publisher writes it, such as gptq or compressed-tensors."),
                    "bits": integer("Bits per weight.", format="int32"),
                    "format": text("Number format of the weights, such as int4 or fp8_e4m3."),
                    "groupSize": integer("Number of weights that share a scale.", format="int32"),
                },
            ),
            "parameters": _count("All parameters of the model."),
            "activeParameters": _count("For mixtures of experts: the parameters that one token passes through."),
            "components": listing(
                "Parts of a pipeline.",
                structure(
                    "One part.",
                    fields={
                        "name": text("Name of the part, as in model_index.json."),
                        "architecture": text("Class that implements it."),
                        "parameters": _count("Its parameters."),
                    },
                ),
            ),
            "parameterSize": text("Number of parameters as people write it, such as 7B."),
            "bytesByDtype": mapping("Bytes of weights by number format, such as BF16.", integer("Bytes.")),
            "weightBytes": integer("Memory that the weights take, in bytes."),
            "weightBytesCertainty": text("How weightBytes is known: exact or estimated."),
            "kvCacheBytesPerToken": integer("Bytes that one token adds to the key-value cache."),
            "kvCacheCertainty": text("How kvCacheBytesPerToken is known: exact or estimated."),
            "contextLength": integer("Longest context as the configuration states it, in tokens."),
            "usableContextLength": integer("Longest context that can be served, in tokens."),
            "vocabularySize": integer("Number of tokens in the vocabulary."),
            "capabilities": listing("Tasks of the model.", text("One capability.")),
            "apiCapabilities": listing("APIs that can serve the model.", text("One API.")),
            "license": text("Licence, if a file states it."),
            "warnings": listing("Remarks about doubtful files or values.", text("One remark.")),
            "predictionParameters": integer(
                "Parameters of layers that predict further tokens (MTP); not part of parameters."
            ),
            "adapter": structure(
                "What an adapter changes; parameters are its own.",
                fields={
                    "type": text("Kind, such as LORA."),
                    "rank": integer("Rank of low-rank matrices.", format="int32"),
                    "alpha": number("What the change is scaled by, over the rank."),
                    "targetModules": listing("Modules that are changed: names, or one pattern.", text("One module.")),
                    "baseModel": text("The model that is changed, as the publisher names it."),
                    "wholeModules": listing("Modules that are stored whole.", text("One module.")),
                    "task": text("What the base model is used for, such as CAUSAL_LM."),
                },
            ),
            "modules": listing(
                "Linear modules of the model or, for an adapter, those that it changes; absent if the headers of the "
                "weights do not tell all of them.",
                structure(
                    "Modules of one name and width.",
                    fields={
                        "name": text("Last part of the name, such as q_proj."),
                        "inputs": integer("Width of what goes in."),
                        "outputs": integer("Width of what comes out."),
                    },
                ),
            ),
        },
        # A newer parser may know more than an older CRD has fields for.
        **{"x-kubernetes-preserve-unknown-fields": True},
    )


def _base_fields() -> dict[str, Schema]:
    return {
        "fineTunedWeights": structure(
            "FineTunedWeights that adapt this model; absent if there are none. kubectl delete warns because of it.",
            fields={
                "count": integer("Number of these weights.", format="int32", minimum=0),
                "names": listing("Their names, at most 16.", text("Name of a FineTunedWeight."), maxItems=16),
            },
        )
    }


def _weight_fields() -> dict[str, Schema]:
    return {
        "base": structure(
            "The model that spec.baseModelRef means; absent if it does not exist.",
            fields={
                "kind": text("BaseModel or ClusterBaseModel."),
                "namespace": text("Namespace of a BaseModel."),
                "name": text("Name of the model."),
            },
        ),
        "weights": text(
            "Adapter: the files are an adapter, which a server loads beside the base. Merged: they are a whole model, "
            "which is served without the base. Absent until the files are parsed.",
            enum=["Adapter", "Merged"],
        ),
    }


def model_status(*, weights: bool = False) -> Schema:
    """Status of a base model, or of weights that adapt one; written by the status service alone."""
    node_name = text("Name of a node.")
    counts: dict[str, Any] = {"format": "int32", "minimum": 0}
    artifact = {
        "digest": text("Name of the set: a SHA-256 over the list of all files and their checksums."),
        "sourceRevision": text("Name of the revision at the source, such as a Git commit."),
        "bytes": integer("Sum of the sizes of all files.", minimum=0),
        "files": integer("Number of files.", minimum=0),
    }
    return structure(
        "State of the model. Only OME writes it.",
        fields={
            **(_weight_fields() if weights else _base_fields()),
            "state": text(
                "Ready: at least one node holds a verified copy, or the claim holds the model. Failed: no node holds "
                "a copy, and all nodes have failed or the source cannot be used as spec describes it. Creating: "
                "neither of the two.",
                enum=["Creating", "Ready", "Failed"],
            ),
            "lifecycle": text(
                "Deleting for a model that is being deleted, Disabled for a disabled one, Incomplete for one that is "
                "not offered because files are known to be missing or damaged, otherwise the state. The column STATE "
                "of kubectl get shows it."
            ),
            "reason": text(
                "The reason to read first: that of the condition Stalled or Degraded if one of them is True, that of "
                "Whole if it is False, otherwise that of Complete."
            ),
            "nodesReady": listing("Nodes that hold a verified copy, sorted.", node_name),
            "nodesFailed": listing(
                "Nodes on which the model has failed, sorted. The field failures has the causes.", node_name
            ),
            "nodesEvicted": listing(
                "Nodes that have given up their copy, sorted; absent if there are none. They fetch the model again "
                "when it is needed.",
                node_name,
            ),
            "observedGeneration": integer("metadata.generation that this status describes.", minimum=0),
            "conditions": listing(
                "Aspects of the state, each with its reason.",
                _condition(),
                **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
            ),
            "nodes": structure(
                "Numbers of nodes.",
                fields={
                    "summary": text("Ready and desired nodes in short, such as 2/3. It is - for a model in a claim."),
                    "desired": integer("Nodes that must hold the model.", **counts),
                    "ready": integer(
                        "Of those, nodes that hold a verified copy, also of an earlier revision while the next one "
                        "comes.",
                        **counts,
                    ),
                    "updating": integer("Of those, nodes that are fetching it and have no earlier copy.", **counts),
                    "failed": integer("Of those, nodes on which it has failed.", **counts),
                    "evicted": integer("Of those, nodes that have given up their copy; absent if none has.", **counts),
                },
            ),
            "artifact": structure(
                "The set of files that readers see on most nodes; as long as no node holds any, the set that every "
                "node must hold.",
                fields={
                    **artifact,
                    "previous": text("Digest of the revision before this one; status.history tells more of it."),
                },
            ),
            "update": structure(
                "The set of files that comes in place of an earlier one, which readers still see on some nodes. Absent "
                "when there is nothing to come.",
                fields={
                    **artifact,
                    "nodesDone": integer("Nodes on which readers see it.", **counts),
                    "nodes": integer("Nodes that must hold it.", **counts),
                    "reason": text("Why it is not known yet what comes, such as Resolving."),
                },
            ),
            "inUse": structure(
                "Pods that use the model, and what nodes keep for them. Absent when there is neither.",
                fields={
                    "nodes": integer("Nodes with Pods that use the model.", **counts),
                    "pods": integer("Pods that use the model.", **counts),
                    "users": listing(
                        "Those that have used it for the longest time, at most 8.",
                        structure(
                            "One Pod.",
                            required=["node", "pod"],
                            fields={
                                "node": node_name,
                                "pod": text("Namespace and name of the Pod, where they may be told."),
                                "since": text("When the Pod started.", format="date-time"),
                            },
                        ),
                        maxItems=8,
                    ),
                    "held": listing(
                        "Copies that no longer have the model's name and stay because Pods use them, at most 16.",
                        structure(
                            "One copy on one node.",
                            required=["node"],
                            fields={
                                "node": node_name,
                                "digest": text("Name of its set of files."),
                                "sourceRevision": text("Name of its revision at the source."),
                                "path": text("The path that led to it."),
                                "until": text("Time when it is removed in any case.", format="date-time"),
                                "pods": integer("Pods that use it.", **counts),
                                "users": listing("Some of them.", text("Namespace and name of a Pod."), maxItems=8),
                            },
                        ),
                        maxItems=16,
                    ),
                },
            ),
            "history": history_field(),
            "verification": verification_field(),
            "progress": structure(
                "How far the nodes are that fetch the model, together; absent while none does. OME writes it at most "
                "twice a minute.",
                fields={
                    "percent": text("Share of the bytes that the nodes have, such as 37%."),
                    "bytes": integer(
                        "Bytes that the nodes have, those that already hold the model included.", minimum=0
                    ),
                    "totalBytes": integer("Size of the model, times the number of desired nodes.", minimum=0),
                    "bytesPerSecond": integer("Bytes that all nodes together fetch per second.", minimum=0),
                    "etaSeconds": integer("Expected seconds until the slowest node has the model.", minimum=0),
                    "slowestNode": text("The node that has the fewest bytes."),
                    "startedAt": text("Time when OME noticed that nodes fetch the model.", format="date-time"),
                    "nodes": listing(
                        "The nodes that fetch the model, at most 10: those with the fewest bytes first.",
                        structure(
                            "How far one node is.",
                            required=["node"],
                            fields={
                                "node": text("Name of the node."),
                                "bytes": integer("Bytes that it has.", minimum=0),
                                "bytesPerSecond": integer("Bytes that it fetches per second.", minimum=0),
                                "etaSeconds": integer("Expected seconds until it has the model.", minimum=0),
                                "files": listing(
                                    "The largest files on their way to it, at most 2. WatchProgress tells more, and "
                                    "sooner.",
                                    structure(
                                        "How far one file is.",
                                        required=["path"],
                                        fields={
                                            "path": text("Path in the artifact; a long one has lost its beginning."),
                                            "bytes": integer("Bytes that the node has of it.", minimum=0),
                                            "totalBytes": integer("Size of the file.", minimum=0),
                                            "bytesPerSecond": integer("Bytes that come per second.", minimum=0),
                                            "etaSeconds": integer("Expected seconds until it is there.", minimum=0),
                                        },
                                    ),
                                    maxItems=2,
                                ),
                            },
                        ),
                        maxItems=10,
                    ),
                },
            ),
            "download": structure(
                "What the last download took, from the first progress until all desired nodes had the model. Absent if "
                "it ended before OME noticed that it had begun.",
                fields={
                    "bytes": integer("Size of the model, times the number of nodes that hold it.", minimum=0),
                    "seconds": integer("Duration of the download.", minimum=0),
                    "finishedAt": text("Time when OME noticed the end.", format="date-time"),
                },
            ),
            "path": text("Where the model lies on the nodes."),
            "failures": listing(
                "Failures by node, for at most 50 nodes.",
                structure(
                    "The failure on one node.",
                    required=["node", "reason"],
                    fields={
                        "node": text("Name of the node."),
                        "reason": text("The cause as one word for programs, such as InsufficientDisk."),
                        "message": text("The cause as a sentence for people."),
                    },
                ),
                maxItems=50,
            ),
            "metadata": _facts(),
            "warnings": listing(
                "What is odd about the source or the files, and what of the source OME left out.",
                structure(
                    "One remark.",
                    required=["reason", "message"],
                    fields={
                        "reason": text("The kind as one word for programs, such as VariantChosen."),
                        "message": text("The remark as a sentence for people.", maxLength=1024),
                    },
                ),
                maxItems=16,
            ),
        },
    )

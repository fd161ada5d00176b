"""What a directory declares about its model: by the parser itself where that is installed, else what its files say.

The plugin is one file and has no parser in it: the service speaks gRPC inside the cluster, to fetchers alone. So the
program that OME_PARSER names is run, and without one only what stands in the files is told, and not judged.
"""

import json
import math
import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from libs.artifact.metadata_files import LENGTH_BYTES, WEIGHTS_SUFFIX
from libs.artifact.model_directory import ModelFile, read_model_directory

HUB = "hf://"
_NOTE = (
    "Only what the files declare: elements are counted as they are stored, and nothing is checked. For facts as OME "
    "writes them, let OME_PARSER name the parser of a checkout, as in OME_PARSER='python -m services.parser'."
)
# Fields of a configuration, with the names under which facts have them.
_DECLARED = {
    "modelType": "model_type",
    "architectures": "architectures",
    "dtype": "torch_dtype",
    "contextLength": "max_position_embeddings",
}


class Unreadable(Exception):
    """There is no model to look at; the message says why."""


def parsed(source: str) -> dict[str, Any]:
    """The facts of a directory, or of a repository that hf:// names. Raises Unreadable."""
    if not source.startswith(HUB):
        return facts_of(Path(source))
    # What it takes to ask a hub is loaded only where it is needed.
    from clients.kubectl.hub import sketch

    with tempfile.TemporaryDirectory(prefix="ome-models-") as folder:
        sketch(source, Path(folder))
        return facts_of(Path(folder))


def facts_of(folder: Path) -> dict[str, Any]:
    """The facts of a directory. Raises Unreadable."""
    if not folder.is_dir():
        raise Unreadable(f"{folder} is not a directory")
    if program := os.environ.get("OME_PARSER"):
        return _by_parser(shlex.split(program), folder)
    try:
        resolved = folder.resolve()
        # A snapshot in a cache of Hugging Face consists of links into the folder beside it.
        boundary = resolved.parent.parent if resolved.parent.name == "snapshots" else resolved
        files = list(read_model_directory(str(folder), boundary=str(boundary)))
    except OSError as error:
        raise Unreadable(f"{error.filename} cannot be read: {error.strerror}") from error
    return declared(files)


def declared(files: list[ModelFile]) -> dict[str, Any]:
    """What files say about their model. Raises Unreadable when none of them is a configuration."""
    by_path = {file.path: file for file in files}
    config = next((by_path[name] for name in ("config.json", "model_index.json") if name in by_path), None)
    if config is None:
        raise Unreadable("there is no config.json and no model_index.json")
    said = _document(config.data, config.path)
    weights = [file for file in files if file.path.endswith(WEIGHTS_SUFFIX)]
    facts = {name: said[field] for name, field in _DECLARED.items() if field in said}
    if isinstance(quantization := said.get("quantization_config"), Mapping):
        facts["quantization"] = quantization.get("quant_method", "")
    if weights:
        tensors = [tensor for file in weights for tensor in _tensors(file)]
        facts |= {
            "tensors": len(tensors),
            "elementsStored": sum(math.prod(tensor["shape"]) for tensor in tensors),
            "storedTypes": sorted({str(tensor["dtype"]) for tensor in tensors}),
        }
    facts |= {"files": len(files), "bytes": sum(file.size_bytes for file in files)}
    return {**facts, "note": _NOTE}


def _by_parser(command: list[str], folder: Path) -> dict[str, Any]:
    try:
        ended = subprocess.run([*command, "inspect", str(folder)], capture_output=True, text=True, check=False)
    except OSError as error:
        raise Unreadable(f"OME_PARSER names {command[0]}, which cannot be started: {error.strerror}") from error
    try:
        found: dict[str, Any] = json.loads(ended.stdout)
    except ValueError as error:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Unreadable(f"OME_PARSER names {command[0]}, which is not the parser: {last}") from error
    if "error" in found:
        raise Unreadable(found["error"]["message"])
    return found


def _document(data: bytes, path: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path} is no JSON") from error
    if not isinstance(found, dict):
        raise Unreadable(f"{path} is no JSON object")
    return found


def _tensors(file: ModelFile) -> list[dict[str, Any]]:
    """The header of a safetensors file: https://github.com/huggingface/safetensors#format."""
    header = _document(file.data[LENGTH_BYTES:], f"the header of {file.path}")
    tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
    for tensor in tensors:
        if not isinstance(tensor, dict) or not isinstance(tensor.get("dtype"), str):
            raise Unreadable(f"the header of {file.path} describes no tensors")
        shape = tensor.get("shape")
        if not isinstance(shape, list) or not all(isinstance(length, int) and length >= 0 for length in shape):
            raise Unreadable(f"the header of {file.path} has a tensor without a shape")
    return tensors

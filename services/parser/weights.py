"""Decides which weight files make up the model, so that copies, variants and adapters are not counted with it."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from services.parser.intake import Directory, Index
from services.parser.safetensors import Tensor

_NAME = re.compile(r"^(?P<stem>.+?)(?:[-_.]\d+-of-(?P<count>\d+))?(?P<rest>(?:\.[A-Za-z0-9_]+)?)\.safetensors$")
# The names that the libraries load, in the order in which they look for them.
_LOADED_STEMS = ("model", "diffusion_pytorch_model", "pytorch_model")
_ADAPTER_STEMS = ("adapter_model", "adapter", "pytorch_lora_weights")
_FORMATS = (
    (".safetensors", "safetensors"),
    (".gguf", "gguf"),
    (".bin", "pytorch"),
    (".pt", "pytorch"),
    (".pth", "pytorch"),
    (".ckpt", "pytorch"),
    (".onnx", "onnx"),
    (".engine", "tensorrt"),
    (".nemo", "nemo"),
    (".msgpack", "flax"),
    (".h5", "tensorflow"),
)


@dataclass(frozen=True)
class Weights:
    """The weight files of one part of a model."""

    files: tuple[str, ...] = ()
    # Shards that should be there and whose header is not.
    missing: tuple[str, ...] = ()
    index_bytes: int = 0
    index_parameters: int = 0


def weights_in(directory: Directory, folder: str = "") -> Weights:
    """The safetensors files that the libraries would load from a folder ("" for the model directory itself)."""
    index = _index(directory, folder)
    if index is not None:
        prefix = f"{folder}/" if folder else ""
        shards = [prefix + shard for shard in index.shards]
        return Weights(
            tuple(shard for shard in shards if shard in directory.headers),
            tuple(shard for shard in shards if shard not in directory.headers),
            index.total_size,
            index.total_parameters,
        )
    names = [path for path in directory.sizes if path.endswith(".safetensors") and path.rpartition("/")[0] == folder]
    chosen = _choose(names)
    missing = [path for path in chosen if path not in directory.headers]
    return Weights(tuple(path for path in chosen if path in directory.headers), tuple(missing))


def tensors_of(directory: Directory, files: Iterable[str]) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The tensors of some files by name, and those that further files hold under names that were there before."""
    tensors: dict[str, Tensor] = {}
    repeated: list[Tensor] = []
    for path in files:
        header = directory.headers[path].tensors
        repeated.extend(header[name] for name in header.keys() & tensors.keys())
        tensors.update(header)
    return tensors, repeated


def is_weight_file(path: str) -> bool:
    """Whether a file is of one of the formats of weights."""
    return path.endswith(tuple(suffix for suffix, _ in _FORMATS)) and _is_weights(path.rpartition("/")[2])


def is_adapter_file(path: str) -> bool:
    """Whether a file holds an adapter's weights, by its name."""
    return path.rpartition("/")[2].startswith(_ADAPTER_STEMS)


def format_of(directory: Directory) -> str:
    """The format of the weights, by the names of the files."""
    # Its weights have the names of PyTorch's.
    if any(path.endswith(".xml") and "openvino" in path for path in directory.sizes):
        return "openvino"
    for suffix, name in _FORMATS:
        if any(path.endswith(suffix) for path in directory.sizes):
            return name
    return "safetensors" if directory.indexes else ""


def weight_file_bytes(directory: Directory) -> int:
    """The sizes of the files that hold the weights of the directory itself, in the first format that it has."""
    for suffix, _ in _FORMATS:
        names = [path for path in directory.sizes if path.endswith(suffix) and "/" not in path]
        chosen = _choose(names) if suffix == ".safetensors" else [name for name in names if _is_weights(name)]
        # Several files of a format that has no shards are variants of one model.
        if chosen and (suffix != ".gguf" or len(chosen) == 1):
            return sum(directory.sizes[name] for name in chosen)
    return 0


def _is_weights(name: str) -> bool:
    return name not in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def _index(directory: Directory, folder: str) -> Index | None:
    candidates = [path for path in directory.indexes if path.rpartition("/")[0] == folder]
    # model.safetensors.index.json before model.fp16.safetensors.index.json and before consolidated's.
    for path in sorted(candidates, key=lambda path: (_rank(path.rpartition("/")[2]), len(path), path)):
        index = directory.indexes[path]
        if not index.shards:
            continue
        if all(_is_plain(name) for name in index.shards):
            return index
        directory.warnings.append(f"{path} names files outside its folder and was ignored.")
    return None


def _is_plain(name: str) -> bool:
    return "/" not in name and "\\" not in name and name not in ("", ".", "..")


def _rank(name: str) -> int:
    stem = name.partition(".")[0]
    return _LOADED_STEMS.index(stem) if stem in _LOADED_STEMS else len(_LOADED_STEMS)


def _choose(paths: list[str]) -> list[str]:
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for path in paths:
        match = _NAME.match(path.rpartition("/")[2])
        if match:
            groups[match["stem"], match["rest"], match["count"] or ""].append(path)
    for stem in _LOADED_STEMS:
        # Without a variant such as ".fp16" first; one set of shards rather than a single file and shards.
        candidates = sorted((rest, count == "", members) for (s, rest, count), members in groups.items() if s == stem)
        if candidates:
            return sorted(candidates[0][2])
    others = [path for path in paths if not path.rpartition("/")[2].startswith(("consolidated", *_ADAPTER_STEMS))]
    if not others:
        others = [path for path in paths if path.rpartition("/")[2].startswith("consolidated")]
    return sorted(others)

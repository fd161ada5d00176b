"""Which files of a repository a model needs: one copy of its weights in the best format, and everything small. Pure.

Publishers put the same weights beside each other in many formats. Where safetensors are, the others are left out; a
folder or a repository that has nothing else keeps what it has. A user's patterns have the last word.
"""

import fnmatch
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

# Whole folders of other people's formats, and what is named like them.
_EXPORT_FOLDERS = {
    "onnx", "openvino", "coreml", "tflite", "tf", "tensorflow", "flax", "jax", "mlx", "gguf", "ggml", "metal",
    "original", "saved_model", "rust",
}  # fmt: skip
_EXPORT_NAMES = re.compile(
    r"""   .*\.(h5|msgpack)(\.index\.json)? | .*\.(tflite|ot|mlmodel|gguf|ggml) | saved_model\.pb
         | .*\.onnx([._]data(_\d+)?)? | openvino_.*\.(bin|xml)""",
    re.VERBOSE | re.IGNORECASE,
)
_SAFETENSORS = re.compile(r".*\.safetensors", re.IGNORECASE)
_PICKLES = re.compile(r".*\.(bin|pth|ckpt|pt)", re.IGNORECASE)
# The state of a training run that was uploaded with its result; several times as large as the model.
_TRAINING = re.compile(
    r"(optimizer|scheduler|scaler|rng_state|training_args|global_step)[^/]*\.(pt|pth|bin)", re.IGNORECASE
)
_CONSOLIDATED = re.compile(r"consolidated([.-].*)?\.(safetensors|pth|pt)", re.IGNORECASE)
_SHARD = re.compile(r"[-_.]?\d{1,5}-of-\d{1,5}")
# https://huggingface.co/docs/diffusers/using-diffusers/loading#checkpoint-variants
_VARIANT = re.compile(r"(.+)\.(fp32|bf16|fp16|fp8|int8|ema|ema_only|non_ema)", re.IGNORECASE)
_PIPELINE_INDEX = "model_index.json"
# Above this, several GGUF files are most likely one model at several precisions.
_MANY_GGUF = 2


@dataclass(frozen=True)
class Selection:
    """Paths to fetch, sorted, and what a person should know about the choice."""

    paths: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def select_files(paths: Collection[str], allow: Sequence[str] = (), ignore: Sequence[str] = ()) -> Selection:
    """Choose the files that a model needs.

    allow replaces the choice by format; ignore is taken away before it. Patterns are globs over the whole path, where
    "*" matches "/" too and a trailing "/" means everything below, as in huggingface_hub.
    """
    kept = {path for path in paths if not _matches(path, ignore)}
    if allow:
        return Selection(tuple(sorted(path for path in kept if _matches(path, allow))))
    kept = _without_exports(kept)
    kept = _without_pickles(kept)
    kept = _without_consolidated(kept)
    kept = _without_variants(kept)
    kept = _without_single_files(kept)
    kept = _without_indexes(kept)
    return Selection(tuple(sorted(kept)), _warnings(kept))


def parse_patterns(text: str) -> tuple[str, ...]:
    """Patterns as a parameter writes them: separated by commas or line ends."""
    return tuple(part.strip() for part in re.split(r"[,\n]", text) if part.strip())


def _without_exports(paths: set[str]) -> set[str]:
    exports = {path for path in paths if _is_export(path)}
    native = {path for path in paths - exports if _is_weights(path)}
    if native:
        return paths - exports
    # Nothing but exports: the first kind that has weights, in the order of what serving engines can use.
    preferences: tuple[Callable[[str], bool], ...] = (
        lambda path: _is_weights(path) and path.startswith("original/"),
        lambda path: path.lower().endswith(".gguf"),
        lambda path: ".onnx" in path.lower(),
        lambda path: path.lower().endswith(".msgpack"),
        lambda path: path.lower().endswith(".h5"),
    )
    for preferred in preferences:
        if any(preferred(path) for path in exports):
            folders = {path.split("/")[0] for path in exports if preferred(path) and "/" in path}
            dropped = {path for path in exports if not preferred(path) and path.split("/")[0] not in folders}
            return paths - dropped
    return paths


def _without_pickles(paths: set[str]) -> set[str]:
    by_folder = _by_folder(paths)
    kept = set()
    for path in paths:
        if _TRAINING.fullmatch(_name(path)):
            continue
        if _PICKLES.fullmatch(_name(path)):
            tensors = [_stem(other) for other in by_folder[_folder(path)] if _SAFETENSORS.fullmatch(_name(other))]
            # An adapter or a variant beside full weights stands for itself only.
            whole = [stem for stem in tensors if not stem.startswith("adapter_") and not _VARIANT.fullmatch(stem)]
            # A lone .pt beside the weights is often no copy of them but a voice, a speaker or a prompt.
            if _stem(path) in tensors or (whole and not path.lower().endswith(".pt")):
                continue
        kept.add(path)
    return kept


def _without_consolidated(paths: set[str]) -> set[str]:
    by_folder = _by_folder(paths)

    def has_another(path: str) -> bool:
        others = by_folder[_folder(path)]
        return any(_is_weights(other) and not _CONSOLIDATED.fullmatch(_name(other)) for other in others)

    return {path for path in paths if not (_CONSOLIDATED.fullmatch(_name(path)) and has_another(path))}


def _without_variants(paths: set[str]) -> set[str]:
    stems = {(_folder(path), _stem(path)) for path in paths if _is_weights(path)}

    def is_extra(path: str) -> bool:
        match = _VARIANT.fullmatch(_stem(path)) if _is_weights(path) else None
        return match is not None and (_folder(path), match[1]) in stems

    return {path for path in paths if not is_extra(path)}


def _without_single_files(paths: set[str]) -> set[str]:
    """A pipeline of components is often accompanied by the same weights in one file at the top."""
    if _PIPELINE_INDEX not in paths or not any(_is_weights(path) and "/" in path for path in paths):
        return paths
    return {path for path in paths if "/" in path or not _is_weights(path)}


def _without_indexes(paths: set[str]) -> set[str]:
    """An index without its shards would send a loader after files that are not there."""
    folders = _by_folder(paths)

    def is_orphan(path: str) -> bool:
        name = _name(path)
        if not name.endswith((".safetensors.index.json", ".bin.index.json")):
            return False
        suffix = "." + name.removesuffix(".index.json").rpartition(".")[2]
        shards = [_name(other) for other in folders[_folder(path)] if other.endswith(suffix)]
        if name.startswith("consolidated"):
            shards = [shard for shard in shards if _CONSOLIDATED.fullmatch(shard)]
        return not shards

    return {path for path in paths if not is_orphan(path)}


def _warnings(paths: Iterable[str]) -> tuple[str, ...]:
    chosen = list(paths)
    found = []
    gguf = {_stem(path) for path in chosen if path.lower().endswith(".gguf")}
    if len(gguf) > _MANY_GGUF:
        found.append(
            f"the repository holds {len(gguf)} GGUF models, and all of them are fetched: "
            "choose one with storage.parameters.allowPatterns, such as '*Q4_K_M*'"
        )
    if not any(_is_weights(path) or _is_export(path) for path in chosen):
        found.append("the repository holds no file that is known to be weights")
    elif not any(_SAFETENSORS.fullmatch(path) for path in chosen) and any(_PICKLES.fullmatch(path) for path in chosen):
        found.append(
            "the repository holds no safetensors: its weights are pickles, which run code when they are loaded"
        )
    return tuple(found)


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, f"{pattern}*" if pattern.endswith("/") else pattern) for pattern in patterns)


def _is_export(path: str) -> bool:
    *folders, name = path.lower().split("/")
    return any(folder in _EXPORT_FOLDERS for folder in folders) or bool(_EXPORT_NAMES.fullmatch(name))


def _is_weights(path: str) -> bool:
    name = _name(path)
    pickle = _PICKLES.fullmatch(name) is not None and _TRAINING.fullmatch(name) is None
    return pickle or _SAFETENSORS.fullmatch(name) is not None


def _by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(_folder(path), []).append(path)
    return folders


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _stem(path: str) -> str:
    """The name of a weights file without its suffix and the number of its shard; PyTorch's prefix counts as none."""
    stem = _SHARD.sub("", _name(path).rpartition(".")[0])
    return stem.removeprefix("pytorch_") if stem.startswith("pytorch_model") else stem

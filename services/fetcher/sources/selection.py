"""Which files of a repository a model needs: one copy of its weights in the best format, and everything small. Pure.

Publishers put the same weights beside each other in many formats and precisions. Where safetensors are, other formats
are left out; a folder or a repository that has nothing else keeps what it has. Of several quantizations in GGUF, one is
taken. storage.parameters.variant chooses another, and a user's patterns have the last word.
"""

import fnmatch
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from libs.artifact.errors import InvalidValue
from libs.artifact.findings import Finding, Remark, remark, shown
from libs.artifact.reasons import Reason
from libs.artifact.uri import VARIANT

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
_INDEX = re.compile(r"(?P<stem>.+)\.(?P<suffix>safetensors|bin)\.index(\.(?P<precision>\w+))?\.json")
_PIPELINE_INDEX = "model_index.json"
# What llama.cpp and those who publish with it write into names: Q4_K_M, IQ3_XXS, UD-Q4_K_XL, F16, MXFP4_MOE.
_QUANTIZATION = re.compile(
    r"(?<![A-Za-z0-9])((?:UD-)?(?:IQ|TQ|Q)\d(?:_[A-Z0-9]+)*|MXFP4(?:_MOE)?|BF16|FP?16|FP?32)(?![A-Za-z0-9])",
    re.IGNORECASE,
)
# The one that llama.cpp takes when nobody says, then its neighbours: what is smaller loses more, what is larger gains
# little.
_PREFERRED = ("Q4_K_M", "UD-Q4_K_XL", "Q4_K_S", "Q5_K_M", "Q4_0", "MXFP4_MOE", "IQ4_XS", "Q5_K_S", "Q6_K", "Q8_0")
# What sees or listens beside a language model in GGUF has precisions of its own, and is small.
_PROJECTOR = "mmproj"
_ORIGINAL = "original"
_ONNX_PRECISION = re.compile(r"_(fp16|fp32|bf16|int8|uint8|q4|q4f16|q8|bnb4|quantized|int4)(?=\.onnx$)", re.IGNORECASE)
_MOST_NAMES = 12


@dataclass(frozen=True)
class Selection:
    """Paths to fetch, sorted, and what a person should know about the choice."""

    paths: tuple[str, ...]
    warnings: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What a model says about the files that it wants.

    allow replaces the choice by format; ignore is taken away before it. Patterns are globs over the whole path, where
    "*" matches "/" too and a trailing "/" means everything below, as in huggingface_hub. variant names a quantization
    (Q4_K_M), a precision (fp16) or original.
    """

    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    variant: str = ""

    @property
    def has_patterns(self) -> bool:
        """Whether patterns may be why nothing is left."""
        return bool(self.allow or self.ignore)

    def wants(self, path: str) -> bool:
        """Whether patterns leave a file in: asked before anything else is looked at, so that no other file matters."""
        return not _matches(path, self.ignore) and (not self.allow or _matches(path, self.allow))


OME_CHOOSES = Choice()


def read_choice(parameters: Mapping[str, str]) -> Choice:
    """What storage.parameters say about the files to fetch."""
    return Choice(
        parse_patterns(parameters.get("allowPatterns", "")),
        parse_patterns(parameters.get("ignorePatterns", "")),
        parameters.get(VARIANT, "").strip(),
    )


def select_files(paths: Collection[str], choice: Choice = OME_CHOOSES) -> Selection:
    """Choose the files that a model needs. Raises InvalidValue InvalidParameter for a variant that there is not."""
    kept = {path for path in paths if choice.wants(path)}
    if choice.allow:
        return Selection(tuple(sorted(kept)))
    whole, variant = frozenset(kept), choice.variant.lower()
    known: set[str] = set()
    if variant == _ORIGINAL:
        kept = _only_original(kept, known)
    elif variant and _QUANTIZATION.fullmatch(variant):
        kept = _only_gguf(kept, variant)
    kept = _without_exports(kept)
    kept = _without_pickles(kept)
    kept = _without_consolidated(kept)
    kept = _with_precision(kept, variant, known)
    kept = _without_single_files(kept)
    kept, told = _with_quantization(kept, variant, known)
    kept = _without_indexes(kept)
    if variant and variant not in {name.lower() for name in known}:
        raise InvalidValue(Reason.INVALID_PARAMETER, _no_such_variant(choice.variant, whole))
    return Selection(tuple(sorted(kept)), (*told, *_left_out(whole, kept, variant), *_warnings(kept)))


def is_folder_marker(name: str, size_bytes: object) -> bool:
    """Whether an entry of a store stands for a folder: consoles end its name in a slash, Hadoop's tools in a word."""
    return not size_bytes and name.endswith(("/", "_$folder$"))


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


def _only_original(paths: set[str], known: set[str]) -> set[str]:
    """The publisher's own format instead of the others."""
    original = {path for path in paths if path.startswith(f"{_ORIGINAL}/")}
    if not any(_is_weights(path) for path in original):
        return paths
    known.add(_ORIGINAL)
    return {path for path in paths if path in original or not (_is_weights(path) or _is_export(path))}


def _only_gguf(paths: set[str], variant: str) -> set[str]:
    """Beside weights in another format GGUF is an export, unless a quantization is asked for that only GGUF has."""
    if not any(_label(path).lower() == variant for path in paths) or any(_precision(path) == variant for path in paths):
        return paths
    return {path for path in paths if _is_gguf(path) or not (_is_weights(path) or _is_export(path))}


def _with_precision(paths: set[str], variant: str, known: set[str]) -> set[str]:
    """Of weights that are there at several precisions, the one that is asked for, or else the one without a name."""
    variants: dict[tuple[str, str], set[str]] = defaultdict(set)
    for path in paths:
        if named := _precision(path):
            variants[_folder(path), _stem(path)[: -len(named) - 1]].add(named)
    known.update(*variants.values())
    stems = {(_folder(path), _stem(path)) for path in paths if _is_weights(path)}

    def stays(path: str) -> bool:
        if not _is_weights(path):
            return True
        named = _precision(path)
        stem = _stem(path)[: -len(named) - 1] if named else _stem(path)
        offered = variants.get((_folder(path), stem), set())
        if variant in offered:
            return named == variant
        return not named or (_folder(path), stem) not in stems

    return {path for path in paths if stays(path)}


def _with_quantization(paths: set[str], variant: str, known: set[str]) -> tuple[set[str], list[Remark]]:
    """Of each model that is there in several quantizations of GGUF, one."""
    models: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(paths):
        label = _label(path)
        if label:
            models[_SHARD.sub("", path.replace(label, "*"))][label.upper()].append(path)
    told, dropped = [], set()
    for labels in models.values():
        known.update(labels)
        if len(labels) < 2 and variant.upper() not in labels:
            continue
        chosen = _chosen_label(labels, variant)
        others = sorted(labels.keys() - {chosen})
        dropped |= {path for label in others for path in labels[label]}
        if others and not variant:
            what = (
                f"of the quantizations {_enumerated([chosen, *others])} in GGUF, {chosen} is fetched: "
                f"parameters.{VARIANT} chooses another"
            )
            told.append(remark(Finding.VARIANT_CHOSEN, what, [path for label in others for path in labels[label]]))
    return paths - dropped, told


def _chosen_label(labels: Mapping[str, Sequence[str]], variant: str) -> str:
    if variant.upper() in labels:
        return variant.upper()
    return next((label for label in _PREFERRED if label in labels), min(labels))


def _label(path: str) -> str:
    """The quantization that the name of a GGUF file, or else of its folder, says; empty where neither does."""
    if not _is_gguf(path) or _PROJECTOR in _name(path).lower():
        return ""
    for text in (_name(path), _folder(path)):
        found = _QUANTIZATION.findall(text)
        if found:
            return str(found[-1])
    return ""


def _precision(path: str) -> str:
    """The precision that the name of a weights file says; empty for the one that others are variants of."""
    match = _VARIANT.fullmatch(_stem(path)) if _is_weights(path) else None
    return match[2].lower() if match else ""


def _no_such_variant(variant: str, paths: Collection[str]) -> str:
    named = {_precision(path) for path in paths if _precision(path)}
    named |= {_label(path).upper() for path in paths if _label(path)}
    if any(path.startswith(f"{_ORIGINAL}/") and _is_weights(path) for path in paths):
        named.add(_ORIGINAL)
    there = f"there are {_enumerated(sorted(named))}" if named else "the source has none"
    return f"storage.parameters.{VARIANT} is {variant!r}, of which the source has no weights; {there}"


def _enumerated(names: Sequence[str]) -> str:
    shown_names, more = names[:_MOST_NAMES], len(names) - _MOST_NAMES
    if more > 0:
        return f"{', '.join(shown_names)} and {more} more"
    return " and ".join(filter(None, (", ".join(shown_names[:-1]), shown_names[-1])))


def _left_out(whole: Collection[str], kept: Collection[str], variant: str) -> list[Remark]:
    """What of the weights is not fetched although somebody may want it. Copies in other formats are not told of."""
    if variant:
        return []
    out = sorted(path for path in set(whole) - set(kept) if _is_weights(path))
    original = [path for path in out if path.startswith(f"{_ORIGINAL}/")]
    precise = [path for path in out if _precision(path) and path not in original]
    told = []
    if original:
        what = (
            f"{_ORIGINAL}/ is left out, the publisher's own format of the same weights: parameters.{VARIANT} "
            f"{_ORIGINAL!r} fetches it instead"
        )
        told.append(remark(Finding.FILES_LEFT_OUT, what, original))
    if precise:
        names = sorted({_precision(path) for path in precise})
        what = f"the weights are there as {_enumerated(names)} too, which is left out: parameters.{VARIANT} chooses it"
        told.append(remark(Finding.FILES_LEFT_OUT, what, precise))
    return told


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
        match = _INDEX.fullmatch(name)
        if match is None:
            return False
        # Of a precision: model.fp16.safetensors.index.json, or model.safetensors.index.fp16.json.
        inner = _VARIANT.fullmatch(match["stem"])
        precision = (match["precision"] or (inner[2] if inner else "")).lower()
        files = [other for other in folders[_folder(path)] if other.endswith("." + match["suffix"])]
        shards = [_name(other) for other in files if _precision(other) == precision]
        if name.startswith("consolidated"):
            shards = [shard for shard in shards if _CONSOLIDATED.fullmatch(shard)]
        return not shards

    return {path for path in paths if not is_orphan(path)}


def _warnings(paths: Iterable[str]) -> tuple[Remark, ...]:
    chosen = sorted(paths)
    found = []
    onnx = [path for path in chosen if path.lower().endswith(".onnx")]
    by_model: dict[str, list[str]] = defaultdict(list)
    for path in onnx:
        by_model[_ONNX_PRECISION.sub("", path)].append(path)
    many = [path for files in by_model.values() if len(files) > 1 for path in files]
    if many:
        what = (
            f"a model is there at several precisions, and all of them are fetched: {shown(many)}; "
            "parameters.ignorePatterns leaves some out"
        )
        found.append(remark(Finding.SEVERAL_VARIANTS, what, many))
    if not any(_is_weights(path) or _is_export(path) for path in chosen):
        found.append(remark(Finding.UNKNOWN_WEIGHTS, "the source holds no file that is known to be weights"))
    elif not any(_SAFETENSORS.fullmatch(path) for path in chosen) and any(_PICKLES.fullmatch(path) for path in chosen):
        what = "the source holds no safetensors: its weights are pickles, which run code when they are loaded"
        found.append(remark(Finding.PICKLED_WEIGHTS, what))
    return tuple(found)


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, f"{pattern}*" if pattern.endswith("/") else pattern) for pattern in patterns)


def _is_export(path: str) -> bool:
    *folders, name = path.lower().split("/")
    return any(folder in _EXPORT_FOLDERS for folder in folders) or bool(_EXPORT_NAMES.fullmatch(name))


def _is_gguf(path: str) -> bool:
    return path.lower().endswith(".gguf")


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

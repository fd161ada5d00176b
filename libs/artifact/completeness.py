"""Judges whether the files of a model make up the whole model: from names, indexes, headers and configuration alone.

The one place that judges it. It is asked twice: a resolver knows the names and sizes of a listing, before a byte is
fetched, and the parser knows indexes, headers and configuration as well, once the bytes are there. So it is in this
library, and what was not read yet is no evidence: an index that nobody has read may explain a gap.

Calls a model incomplete only on proof, and whole only when something in its files says what there must be and all of it
is there. Between the two it does not know, which holds nothing up. Pure.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from libs.artifact.findings import MAX_FILES, Finding, Remark, remark, shown

_MOST_DEFECTS = 8
# No publisher has more folders with weights, or more sets and indexes in one of them. Names may be made to cost time:
# what nobody looks at proves nothing.
_MOST_FOLDERS = 1000
_MOST_SETS = 1000
_MOST_INDEXES = 64
_MOST_PARTS = 256
_LONGEST_MESSAGE = 900
# A set of shards larger than this is a name that only looks like one.
MOST_SHARDS = 10_000
_SAFETENSORS, _GGUF = ".safetensors", ".gguf"
# Files of these kinds hold weights, whatever they are called.
WEIGHT_SUFFIXES = (
    _SAFETENSORS, _GGUF, ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".engine", ".nemo", ".msgpack", ".h5", ".ggml",
    ".tflite", ".plan",
)  # fmt: skip
# The state of a training run has the suffixes of weights.
_TRAINING = re.compile(r"(optimizer|scheduler|scaler|rng_state|training_args|global_step)[^/]*\.(pt|pth|bin)")
# Kinds of files that hold no weights. What is of no kind in either list may be anything.
_NO_WEIGHTS = re.compile(
    r"""   .*\.(json|jsonl|ya?ml|toml|txt|md|rst|py|ipynb|html?|csv|tsv|jinja2?|tiktoken|spm|bpe|cfg|ini|log|sh|lock
                |png|jpe?g|gif|webp|svg|pdf|mp[34]|wav|flac|ogg|xml)
         | (tokenizer|spiece|source|target|sentencepiece(\.bpe)?|bpe|tokenization|vocab)[^/]*\.model
         | license.* | notice.* | readme.* | merges.* | vocab.* | use_policy.* | \.git\w+ | dockerfile | makefile
         | citation.*""",
    re.VERBOSE | re.IGNORECASE,
)
# model-00001-of-00003.safetensors, model.fp16-00001-of-00002.safetensors, model-00001-of-00002.fp16.safetensors, and
# the slices of tensor parallelism, model0-mp8.safetensors.
_SHARD = re.compile(r"(?P<stem>.*?)[-_.]?(?P<number>\d{1,6})-(?:of-|mp)(?P<count>\d{1,6})(?P<rest>(?:\.\w+)?)")
# Meta's consolidated.00.pth and MLC's params_shard_0.bin count from zero and do not say how many there are.
_COUNTED = re.compile(r"(?P<stem>consolidated\.|params_shard_)(?P<number>\d{1,4})\.(?P<suffix>pth|pt|safetensors|bin)")
_INDEX = re.compile(r"(?P<stem>.+)\.(?P<suffix>safetensors|bin)\.index(\.\w+)?\.json")
_IN_INDEX = re.compile(rb':\s*"([^"\\]{1,1024}\.safetensors)"')
_IN_PICKLE_INDEX = re.compile(rb':\s*"([^"\\]{1,1024}\.bin)"')
_RANK = re.compile(r"rank(\d{1,4})\.(engine|safetensors)")
# What libraries load from a folder when no index tells them otherwise.
_PRIMARY = re.compile(
    r"""  ((model|pytorch_model|diffusion_pytorch_model|consolidated|tf_model|flax_model)
          (\.(fp32|bf16|fp16|fp8|int8|ema|ema_only|non_ema))?
        | adapter_model | adapters | pytorch_lora_weights)\.\w+""",
    re.VERBOSE,
)
_PIPELINE, _CONFIG, _ADAPTER, _GENAI = "model_index.json", "config.json", "adapter_config.json", "genai_config.json"
_SENTENCE_MODULES = "modules.json"
# Classes of a pipeline's parts that have no weights, and parts that pipelines are loaded without.
_WEIGHTLESS = ("Scheduler", "Tokenizer", "TokenizerFast", "Processor", "ProcessorFast", "Extractor", "Guider", "Config")
_OPTIONAL_PARTS = frozenset(("safety_checker", "feature_extractor", "image_encoder", "watermarker", "image_noising"))
_PART_LIBRARIES = ("diffusers", "transformers")
# Methods whose weights are packed into whole numbers, whatever the tensors are called.
_PACKED_METHODS = ("gptq", "awq")
_WHOLE_NUMBERS = frozenset(("I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64"))
_TOKENIZER = re.compile(
    r"tokenizer.*|tokenization.*|vocab.*|merges.*|.*\.(tiktoken|spm|bpe)|(spiece|sentencepiece).*|tekken\.json|"
    r"source\.spm|bpe.*|.*tokenizer.*\.(py|model|json)",
    re.IGNORECASE,
)
_TOKENIZER_FILE = re.compile(
    r"tokenizer\.(json|model)|vocab\.(json|txt)|merges\.txt|spiece\.model|sentencepiece[^/]*\.model|[^/]*\.(tiktoken|spm)"
)
# Classes that write text and read it, and nothing else.
_WRITERS = re.compile(r"\w+(ForCausalLM|ForSeq2SeqLM|LMHeadModel)")


@dataclass(frozen=True)
class Damage:
    """What is wrong with one file; `what` goes on with the sentence that its name begins."""

    finding: Finding
    what: str


@dataclass(frozen=True)
class Evidence:
    """What is known of a model's files.

    sizes has all of them. The rest is what was read: the files that an index names, relative to its folder; documents;
    what is wrong with a file; the types of a file's tensors. read says that all was read that the parser reads, so that
    what is not here is not there.
    """

    sizes: Mapping[str, int]
    indexes: Mapping[str, Collection[str]] = field(default_factory=dict)
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    damaged: Mapping[str, Damage] = field(default_factory=dict)
    tensor_types: Mapping[str, Collection[str]] = field(default_factory=dict)
    # GGUF files whose headers were read to their end, and archives, that are as long as these say.
    sound: Collection[str] = ()
    read: bool = False

    @cached_property
    def has_weights(self) -> bool:
        """Whether there is any file that holds weights, by its name."""
        return any(map(is_weights, self.sizes))


@dataclass(frozen=True)
class Verdict:
    """Whether the model is whole, None when nothing proves either, and why it is not.

    doubts are worth telling and prove nothing. undecided names files that are there and would decide if they were read.
    """

    whole: bool | None
    defects: tuple[Remark, ...] = ()
    doubts: tuple[Remark, ...] = ()
    undecided: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """All defects in one sentence, as far as there is room for them."""
        return "; ".join(defect.message for defect in self.defects)[:_LONGEST_MESSAGE]


@dataclass(frozen=True)
class _Set:
    """Files that belong together by their numbers, how many there must be, and the first of those that are missing."""

    paths: tuple[str, ...]
    count: int
    missing: tuple[str, ...]


@dataclass
class _Folder:
    """What the weights of one folder come to."""

    defects: list[Remark] = field(default_factory=list)
    doubts: list[Remark] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    # Of each set of weights that nothing speaks against: whether something says what there must be, and that is there.
    proofs: list[bool] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether there is a set of weights that nothing speaks against."""
        return bool(self.proofs)

    @property
    def proven(self) -> bool:
        """Whether what there must be is known, and all of it is there."""
        return bool(self.proofs) and all(self.proofs) and not self.undecided


def judge(evidence: Evidence) -> Verdict:
    """Whether the files that there are make up the whole model."""
    folders, indexes = _by_folder(evidence, is_weights), _by_folder(evidence, is_index)
    if len(folders.keys() | indexes.keys()) > _MOST_FOLDERS:
        return Verdict(None)
    judged = {
        folder: _judge_folder(evidence, folder, folders.get(folder, ()), indexes.get(folder, ()))
        # An index whose shards are all missing is a part of the model all the same.
        for folder in sorted(folders.keys() | indexes.keys())
    }
    pipeline = evidence.documents.get(_PIPELINE)
    if _is_pipeline(evidence):
        if pipeline is None:
            # Which folders belong to the pipeline is not known.
            gaps = [each for each in judged.values() if each.defects or each.undecided]
            return Verdict(
                None, undecided=(_PIPELINE, *(path for each in gaps for path in each.undecided)) if gaps else ()
            )
        needed, found = _judge_pipeline(evidence, pipeline, judged)
    else:
        needed, found = _needed_folders(evidence, judged)
    defects = [defect for folder in needed for defect in judged[folder].defects] + found.defects
    doubts = [doubt for folder in judged for doubt in judged[folder].doubts] + found.doubts
    doubts += [defect for folder in judged if folder not in needed for defect in judged[folder].defects]
    undecided = [path for folder in needed for path in judged[folder].undecided]
    defects += _of_configuration(evidence, needed)
    doubts += _of_tokenizer(evidence, judged)
    bounded = tuple(dict.fromkeys(defects))[:_MOST_DEFECTS]
    proven = evidence.read and bool(needed) and found.proven and all(judged[folder].proven for folder in needed)
    whole = False if bounded else True if proven and not undecided else None
    return Verdict(whole, bounded, tuple(dict.fromkeys(doubts))[:_MOST_DEFECTS], tuple(undecided))


def is_weights(path: str) -> bool:
    """Whether a file holds weights, by its name."""
    name = _name(path)
    return name.lower().endswith(WEIGHT_SUFFIXES) and not _TRAINING.fullmatch(name)


def is_index(path: str) -> bool:
    """Whether a file says which shards there are."""
    return _INDEX.fullmatch(_name(path)) is not None


def names_in_index(path: str, data: bytes) -> tuple[str, ...]:
    """The files that an index names, sorted; at most as many as a model may have.

    Read by pattern: as a document, an index of 280,000 tensors would take ten times its size in memory.
    """
    names = _IN_PICKLE_INDEX if _index_suffix(path) == "bin" else _IN_INDEX
    found: set[str] = set()
    for match in names.finditer(data):
        found.add(match[1].decode("utf-8", "replace"))
        if len(found) > MOST_SHARDS:
            break
    return tuple(sorted(found))


def is_tokenizer(path: str) -> bool:
    """Whether a file is the vocabulary or the rules of a tokenizer, by its name."""
    return _TOKENIZER_FILE.fullmatch(_name(path)) is not None


def is_like_text(beginning: bytes) -> bool:
    """Whether the first bytes of a file may be those of a pointer or of a web page."""
    return beginning.startswith(b"version ") or beginning.lstrip().startswith(b"<")


def damage_of(path: str, size_bytes: int, beginning: bytes) -> Damage | None:
    """What a file of weights is that cannot be one, by its size and its first bytes; None when nothing is seen.

    https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md: a pointer begins with its version and is shorter than
    1,024 bytes.
    """
    if size_bytes == 0:
        return Damage(Finding.EMPTY_FILE, "is empty")
    start = beginning.lstrip()[:16].lower()
    if beginning.startswith(b"version ") and size_bytes < 1024:
        return Damage(
            Finding.POINTER_FILE,
            "is a Git LFS pointer, not the file that it stands for: publish it with Git LFS installed",
        )
    if start.startswith((b"<!doctyp", b"<html", b"<?xml")) and path.lower().endswith((*WEIGHT_SUFFIXES, ".json")):
        return Damage(Finding.ERROR_PAGE, "is a web page, such as a server answers with in place of a file")
    return None


def _is_pipeline(evidence: Evidence) -> bool:
    config = evidence.documents.get(_CONFIG, {})
    return _PIPELINE in evidence.sizes and not ("model_type" in config or "architectures" in config)


def _by_folder(evidence: Evidence, wanted: Callable[[str], bool]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = defaultdict(list)
    for path in sorted(evidence.sizes):
        if wanted(path):
            folders[_folder(path)].append(path)
    return folders


def _judge_folder(evidence: Evidence, folder: str, paths: Sequence[str], indexes: Sequence[str]) -> _Folder:
    result = _Folder()
    sets = _numbered(paths)
    numbered = {path for each in sets for path in each.paths}
    covered: set[str] = set()
    opaque = list(indexes[_MOST_INDEXES:])
    for index in indexes[:_MOST_INDEXES]:
        if damage := _damage(evidence, index):
            result.defects.append(_remark_of(index, damage))
        suffix = "." + _index_suffix(index)
        named = [f"{folder}/{name}" if folder else name for name in evidence.indexes.get(index, ())]
        if not named or any(not name.endswith(suffix) or not _stays_inside(name) for name in named):
            # Not read, or of a kind that nobody knows.
            opaque.append(index)
            continue
        covered |= {path for path in paths if path.endswith(suffix)}
        _judge_index(evidence, index, named, [path for path in numbered if path.endswith(suffix)], result)
    for each in sets:
        if not covered.issuperset(each.paths):
            explaining = [index for index in opaque if each.paths[0].endswith("." + _index_suffix(index))]
            _judge_set(evidence, each, explaining, result)
    _judge_singles(evidence, [path for path in paths if path not in numbered], covered, bool(sets or indexes), result)
    if result.usable and result.defects:
        # What a library loads is there; what else lies beside it is of no concern to it.
        result.doubts, result.defects, result.undecided = result.doubts + result.defects, [], []
    return result


def _judge_singles(
    evidence: Evidence, singles: Sequence[str], covered: Collection[str], among_sets: bool, result: _Folder
) -> None:
    """Files without a number. One with a name that libraries look for is a model by itself, and so is each GGUF."""
    sound = [path for path in singles if _damage(evidence, path) is None]
    alone = [path for path in sound if _PRIMARY.fullmatch(_name(path))]
    alone += [path for path in sound if path.endswith(_GGUF) and "mmproj" not in _name(path).lower()]
    if not alone and not among_sets and len(sound) == len(singles):
        alone = sound
    if alone:
        result.proofs.append(not among_sets and all(_is_shown_whole(evidence, path) for path in alone))
    for path in singles:
        damage = _damage(evidence, path)
        if damage and path not in covered:
            result.defects.append(_remark_of(path, damage))


def _judge_index(
    evidence: Evidence, index: str, named: Sequence[str], numbered: Sequence[str], result: _Folder
) -> None:
    missing = sorted(path for path in named if path not in evidence.sizes)
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        what = (
            f"{shown(missing)} {verb} missing: {index} names {len(named):,} files and {len(missing):,} {verb} not there"
        )
        finding = Finding.MISSING_FILES
        if not evidence.has_weights:
            finding, what = Finding.NO_WEIGHTS, f"there are no weights: {what}"
        result.defects.append(remark(finding, what, missing))
    damaged = [path for path in named if path in evidence.sizes and _damage(evidence, path)]
    result.defects += [_remark_of(path, damage) for path in damaged if (damage := _damage(evidence, path))]
    extra = sorted(set(numbered) - set(named))
    if extra:
        what = f"{shown(extra)} {'is' if len(extra) == 1 else 'are'} no part of the model that {index} describes"
        result.doubts.append(remark(Finding.EXTRA_SHARDS, what, extra))
    if not missing and not damaged:
        result.proofs.append(all(_is_shown_whole(evidence, path) or not path.endswith(_SAFETENSORS) for path in named))


def _judge_set(evidence: Evidence, each: _Set, explaining: Sequence[str], result: _Folder) -> None:
    damaged = [(path, damage) for path in each.paths if (damage := _damage(evidence, path))]
    result.defects += [_remark_of(path, damage) for path, damage in damaged]
    if each.missing and explaining:
        # An index may name fewer shards than their numbers promise.
        result.undecided += explaining
    elif each.missing:
        there, lacking = len(each.paths), each.count - len(each.paths)
        verb = "is" if lacking == 1 else "are"
        what = f"{shown(each.missing, lacking)} {verb} missing: there are {there:,} of {each.count:,}"
        result.defects.append(remark(Finding.MISSING_SHARDS, f"{what} shards", each.missing))
    elif not damaged:
        result.proofs.append(all(_is_shown_whole(evidence, path) for path in each.paths))


def _numbered(paths: Sequence[str]) -> list[_Set]:
    """The sets that the numbers in names make."""
    groups: dict[tuple[str, ...], dict[int, str]] = defaultdict(dict)
    for path in paths:
        name, folder = _name(path), _folder(path)
        stem, _, suffix = name.rpartition(".")
        if match := _SHARD.fullmatch(stem):
            groups[folder, match["stem"], match["count"], match["rest"], suffix][int(match["number"])] = path
        elif match := _COUNTED.fullmatch(name):
            groups[folder, match["stem"], "", "", match["suffix"]][int(match["number"])] = path
    sets = ((count, members) for (_, _, count, _, _), members in groups.items() if _is_set(count, members))
    return [_set(count, members) for count, members in islice(sets, _MOST_SETS)]


def _is_set(count: str, members: Mapping[int, str]) -> bool:
    most = int(count) if count else max(members) + 1
    return 0 < most <= MOST_SHARDS and max(members) <= most


def _set(count: str, members: Mapping[int, str]) -> _Set:
    """Most tools count from one; some from zero, and then up to one less than they say, or up to what they say."""
    first = next(iter(members.values()))
    if not count:
        wanted = range(max(members) + 1)
    elif 0 in members or _counts_from_zero(first):
        wanted = range(int(count))
    else:
        wanted = range(1, int(count) + 1)
    missing = islice((_renumbered(first, number) for number in wanted if number not in members), MAX_FILES)
    there = tuple(members[number] for number in sorted(members))
    # A set that is counted from zero up to what it says has one more.
    return _Set(there, max(len(wanted), len(there)), tuple(missing))


def _counts_from_zero(path: str) -> bool:
    return "-mp" in _name(path)


def _renumbered(path: str, number: int) -> str:
    """The name of another shard of a set, with as many digits as its sister has."""
    folder, name = _folder(path), _name(path)
    match = re.search(r"\d+(?=-of-|-mp)", name) or re.search(r"\d+(?=\.\w+$)", name)
    assert match is not None
    digits = match[0]
    width = len(digits) if digits.startswith("0") or len(digits) > 3 else 0
    renamed = f"{name[: match.start()]}{number:0{width}d}{name[match.end() :]}"
    return f"{folder}/{renamed}" if folder else renamed


def _needed_folders(evidence: Evidence, judged: Mapping[str, _Folder]) -> tuple[list[str], _Folder]:
    """The folders whose weights the model needs; where none has the name of one, the best stands for all."""
    found = _Folder(proofs=[True])
    parts = [part for part in _sentence_parts(evidence) if part in judged]
    if "" in judged:
        return ["", *(part for part in parts if part)], found
    if parts:
        return parts, found
    usable = [folder for folder, each in judged.items() if each.usable]
    # Variants have a folder each. One that is whole can be served; that another is not is told, and no more.
    return (usable[:1] if usable else list(judged)), found


def _sentence_parts(evidence: Evidence) -> list[str]:
    modules = evidence.documents.get(_SENTENCE_MODULES, {}).get("[]")
    if not isinstance(modules, list):
        return []
    paths = [module.get("path") for module in modules if isinstance(module, dict)]
    return [path.strip("/") for path in paths if isinstance(path, str)]


def _judge_pipeline(
    evidence: Evidence, pipeline: Mapping[str, Any], judged: Mapping[str, _Folder]
) -> tuple[list[str], _Folder]:
    """The parts that model_index.json names: https://huggingface.co/docs/diffusers/using-diffusers/loading."""
    found, needed = _Folder(proofs=[True]), []
    for name, entry in islice(pipeline.items(), _MOST_PARTS):
        if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(word, str) for word in entry)):
            continue
        library, class_name = entry
        if name in judged and name not in _OPTIONAL_PARTS:
            needed.append(name)
        elif library in _PART_LIBRARIES and evidence.read and name not in judged:
            _judge_lacking_part(evidence, name, class_name, found)
        elif name not in judged:
            found.proofs.append(False)
    if not needed and "" in judged and judged[""].usable:
        # One file at the top is the whole pipeline.
        return [""], _Folder()
    return needed, found


def _judge_lacking_part(evidence: Evidence, name: str, class_name: str, found: _Folder) -> None:
    files = [path for path in evidence.sizes if path.startswith(f"{name}/")]
    needs_weights = not class_name.endswith(_WEIGHTLESS)
    if files and (not needs_weights or any(not _NO_WEIGHTS.fullmatch(_name(path)) for path in files)):
        found.proofs.append(not needs_weights)
        return
    if files:
        what = f"{name}/ has no weights, although {_PIPELINE} names {class_name[:100]}"
        told = remark(Finding.NO_WEIGHTS, what, [f"{name}/"])
    else:
        what = f"{name}/ is missing, which {_PIPELINE} names ({class_name[:100]})"
        told = remark(Finding.MISSING_PART, what, [f"{name}/"])
    found.proofs.append(False)
    (found.doubts if name in _OPTIONAL_PARTS or not needs_weights else found.defects).append(told)


def _of_configuration(evidence: Evidence, needed: Sequence[str]) -> Iterator[Remark]:
    """What the configuration says that there must be, and is not."""
    if not evidence.read:
        return
    config = evidence.documents.get(_CONFIG, {})
    if _lacks_weights(evidence, config):
        what = "there are no weights: no file is of a kind that holds any"
        yield remark(Finding.NO_WEIGHTS, what)
    yield from _of_stubs(evidence)
    yield from _of_ranks(evidence, config)
    for path in (path for path in evidence.documents if _name(path) == _GENAI):
        yield from _of_genai(evidence, path)
    yield from _of_packing(evidence, config, needed)


def _lacks_weights(evidence: Evidence, config: Mapping[str, Any]) -> bool:
    """Whether a model is described, and nothing beside the description can be its weights."""
    names = [_name(path) for path in evidence.sizes]
    if any(is_weights(path) or not _NO_WEIGHTS.fullmatch(_name(path)) for path in evidence.sizes):
        return False
    if any(path for path in evidence.sizes if is_index(path)):
        # The shards that an index names are missed by their names.
        return False
    # A tokenizer has a configuration too, without a class; code of the model's own may fetch what it likes.
    described = bool(config.get("architectures")) and "auto_map" not in config
    return described or (_ADAPTER in names and bool(evidence.documents.get(_ADAPTER, {}).get("peft_type")))


def _of_stubs(evidence: Evidence) -> Iterator[Remark]:
    """What describes the model, or reads its text, and is something else that stands in its place."""
    has_gguf = any(path.endswith(_GGUF) for path in evidence.sizes)
    for path, damage in evidence.damaged.items():
        describes = path in (_CONFIG, _PIPELINE, _ADAPTER) and not has_gguf
        if describes or (damage.finding is Finding.POINTER_FILE and is_tokenizer(path) and "/" not in path):
            yield _remark_of(path, damage)


def _of_ranks(evidence: Evidence, config: Mapping[str, Any]) -> Iterator[Remark]:
    """TensorRT-LLM writes one file for each rank of its mapping."""
    inner = config.get("pretrained_config", config)
    mapping = inner.get("mapping") if isinstance(inner, dict) else None
    size = mapping.get("world_size") if isinstance(mapping, dict) else None
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MOST_SHARDS:
        return
    matches = [match for path in evidence.sizes if (match := _RANK.fullmatch(path))]
    for suffix in sorted({match[2] for match in matches}):
        there = {int(match[1]) for match in matches if match[2] == suffix}
        missing = [f"rank{rank}.{suffix}" for rank in range(size) if rank not in there]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            what = f"{shown(missing)} {verb} missing: {_CONFIG} describes {size:,} ranks"
            yield remark(Finding.MISSING_SHARDS, what, missing)


def _of_genai(evidence: Evidence, path: str) -> Iterator[Remark]:
    """https://onnxruntime.ai/docs/genai/reference/config.html: each model names its file."""
    model = evidence.documents[path].get("model")
    parts = [part for part in model.values() if isinstance(part, dict)] if isinstance(model, dict) else []
    names = [name for part in parts if isinstance(name := part.get("filename"), str) and _stays_inside(name)]
    folder = _folder(path)
    wanted = [f"{folder}/{name}" if folder else name for name in names if name.endswith(".onnx")]
    missing = sorted({name for name in wanted if name not in evidence.sizes})
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        yield remark(Finding.MISSING_FILES, f"{shown(missing)} {verb} missing, which {path} names", missing)


def _of_packing(evidence: Evidence, config: Mapping[str, Any], needed: Sequence[str]) -> Iterator[Remark]:
    """Weights that are packed hold whole numbers; where all headers were read and none has any, they are not packed."""
    block = config.get("quantization_config")
    method = block.get("quant_method") if isinstance(block, dict) else None
    if method not in _PACKED_METHODS or "" not in needed:
        return
    paths = [path for path in evidence.sizes if _folder(path) == "" and is_weights(path)]
    types = [evidence.tensor_types.get(path) for path in paths]
    if paths and all(types) and not any(_WHOLE_NUMBERS & set(each) for each in types if each):
        what = f"{_CONFIG} says that the weights are packed by {method}, but no file holds any that are"
        yield remark(Finding.OTHER_FORMAT, what, paths)


def _of_tokenizer(evidence: Evidence, folders: Mapping[str, _Folder]) -> Iterator[Remark]:
    classes = evidence.documents.get(_CONFIG, {}).get("architectures")
    if not (evidence.read and isinstance(classes, list) and "" in folders and _ADAPTER not in evidence.sizes):
        return
    writes = any(isinstance(name, str) and _WRITERS.fullmatch(name) for name in classes)
    if not writes or any(path.endswith((_GGUF, ".onnx", ".engine", ".nemo")) for path in evidence.sizes):
        return
    if not any(_TOKENIZER.fullmatch(_name(path)) for path in evidence.sizes):
        yield remark(Finding.NO_TOKENIZER, "there is no tokenizer, which whoever serves the model has to bring")


def _damage(evidence: Evidence, path: str) -> Damage | None:
    if path in evidence.damaged:
        return evidence.damaged[path]
    return Damage(Finding.EMPTY_FILE, "is empty") if evidence.sizes.get(path) == 0 else None


def _is_shown_whole(evidence: Evidence, path: str) -> bool:
    """Whether the file itself says how long it must be, and is. Old pickles, ONNX and engines do not say."""
    return path in evidence.tensor_types or path in evidence.sound


def _remark_of(path: str, damage: Damage) -> Remark:
    return remark(damage.finding, f"{path} {damage.what}", [path])


def _index_suffix(index: str) -> str:
    match = _INDEX.fullmatch(_name(index))
    assert match is not None
    return match["suffix"]


def _stays_inside(name: str) -> bool:
    return (
        not name.startswith("/") and "\\" not in name and not any(part in ("", ".", "..") for part in name.split("/"))
    )


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]

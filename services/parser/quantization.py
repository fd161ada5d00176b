"""How weights are quantized, by what the publisher wrote into config.json or into one of the files beside it.

Knows the words of each tool. Must not look at weights: what is stored is for packings.py to say.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ome.parser.v1.parser_pb2 import Quantization
from services.parser.context import text_sections
from services.parser.packings import Hint
from services.parser.section import Section, Undescribed

FP8 = "fp8"
FBGEMM_FP8 = "fbgemm_fp8"
INT4 = "int4"

_SECTIONS = ("quantization_config", "compression_config", "quantization")
_FLOAT_FORMATS = {"e4m3": "fp8_e4m3", "e5m2": "fp8_e5m2"}
# Tools whose integers of four bits the seed's word "int4" means; others pack theirs in ways of their own.
_INT4_METHODS = frozenset(("gptq", "awq", "compressed-tensors", "auto-round", "modelopt"))
_FP8_METHODS = frozenset(("fp8", "compressed-tensors", "modelopt"))
_BITS_IN_NAME = re.compile(r"(?:W|INT|FP|NF|UINT|FLOAT)(\d{1,2})(?!\d)", re.IGNORECASE)
# Spellings of one method.
_METHODS = {
    "bitsandbytes_4bit": "bitsandbytes",
    "bitsandbytes_8bit": "bitsandbytes",
    "intel/auto-round": "auto-round",
    "autoround": "auto-round",
    "auto_round": "auto-round",
    "compressed_tensors": "compressed-tensors",
}
# Methods that have one format.
_FIXED = {
    "mxfp4": (4, "mxfp4", 32),
    "mxfp8": (8, "mxfp8", 32),
    "nvfp4": (4, "nvfp4", 16),
    "modelopt_fp4": (4, "nvfp4", 16),
    "petit_nvfp4": (4, "nvfp4", 16),
    "eetq": (8, "int8", 0),
    "w8a8_int8": (8, "int8", 0),
    "experts_int8": (8, "int8", 0),
    "tpu_int8": (8, "int8", 0),
    "w8a8_fp8": (8, "fp8_e4m3", 0),
    "ptpc_fp8": (8, "fp8_e4m3", 0),
    "bitnet": (2, "ternary", 0),
}
_DTYPES = {
    "int4": (4, "int4"), "uint4": (4, "int4"), "int8": (8, "int8"), "uint8": (8, "int8"), "int3": (3, "int3"),
    "int2": (2, "int2"), "uint2": (2, "int2"), "uint3": (3, "int3"), "int6": (6, "int6"), "uint6": (6, "int6"),
    "fp4": (4, "fp4"), "mxfp4": (4, "mxfp4"), "nvfp4": (4, "nvfp4"), "mx9": (9, "mx9"), "mx6": (6, "mx6"),
    "fp6_e2m3": (6, "fp6_e2m3"), "fp6_e3m2": (6, "fp6_e3m2"), "mxfp6_e2m3": (6, "mxfp6"), "mxfp6_e3m2": (6, "mxfp6"),
    "fp8_e4m3": (8, "fp8_e4m3"), "fp8_e5m2": (8, "fp8_e5m2"), "float8": (8, "fp8_e4m3"),
    "float8_e4m3fn": (8, "fp8_e4m3"), "float8_e4m3fnuz": (8, "fp8_e4m3"), "float8_e5m2": (8, "fp8_e5m2"),
    "qint8": (8, "int8"), "qint4": (4, "int4"), "qint2": (2, "int2"), "qfloat8": (8, "fp8_e4m3"),
    "mxfp8": (8, "mxfp8"), "mx_fp8_e4m3": (8, "mxfp8"),
}  # fmt: skip
_TORCHAO = (
    (re.compile(r"int4|uint4", re.IGNORECASE), 4, "int4"),
    (re.compile(r"float8|fp8", re.IGNORECASE), 8, "fp8_e4m3"),
    (re.compile(r"int8", re.IGNORECASE), 8, "int8"),
    (re.compile(r"nvfp4", re.IGNORECASE), 4, "nvfp4"),
    (re.compile(r"mxfp4", re.IGNORECASE), 4, "mxfp4"),
)
_MAX_GROUPS = 64


_NO_HINT = Hint()


@dataclass(frozen=True)
class Scheme:
    """What is stated about packed weights; stated is None when nothing is quantized."""

    stated: Quantization | None = None
    hint: Hint = _NO_HINT
    # Modules that have a width of their own, by the end of their names.
    own: Mapping[str, Hint] = field(default_factory=dict)
    # Bits of a number in the key-value cache; zero when it is not quantized.
    cache_bits: int = 0

    def hint_for(self, module: str) -> Hint:
        """What is stated about the weights of one module."""
        return self.own.get(module, self.hint)


def scheme_of(c: Section, side: Section, others: Section) -> Scheme:
    """How a model is quantized, by its configuration, its hf_quant_config.json and what other tools write beside it."""
    cache = _cache_bits(c, side)
    for section in text_sections(c):
        for name in _SECTIONS:
            stated = section.section(name) if name in section.values else Section({})
            if stated:
                return _scheme(stated, section, side.section("quantization"), cache)
    if side.section("quantization"):
        return _finish(_modelopt(side.section("quantization")), {}, cache)
    if others:
        return _scheme(others, c, Section({}), cache)
    return Scheme(cache_bits=cache)


def _scheme(q: Section, c: Section, side: Section, cache: int) -> Scheme:
    method = _method(q)
    if method == "modelopt":
        algorithm = q.text("quant_algo") or side.text("quant_algo")
        return _finish(_modelopt(q.merged({"quant_algo": algorithm})), {}, cache)
    result = Quantization(method=method, bits=_bits(q), group_size=_group_size(q))
    if method in ("fp8", "fbgemm_fp8"):
        result.bits = 8
        result.format = _FLOAT_FORMATS.get(q.text("fmt"), "fp8_e4m3")
        if c.text("expert_dtype") == "fp4":
            result.format = "fp8_e4m3+fp4"
    elif method in _FIXED:
        result.bits, result.format, group = _FIXED[method]
        result.group_size = result.group_size or group
    elif method == "bitsandbytes":
        if not _read_bitsandbytes(q, result):
            return Scheme(cache_bits=cache)
    elif method == "compressed-tensors":
        if not _read_compressed_tensors(q, result):
            return Scheme(cache_bits=cache)
    elif method in _READERS:
        _READERS[method](q, result)
    elif result.bits and method not in _PACKED_BY_RATE:
        result.format = f"int{result.bits}"
    return _finish(result, _own_widths(q) if method == "mlx" else {}, cache)


def _finish(result: Quantization | None, own: Mapping[str, Hint], cache: int) -> Scheme:
    if result is None or not (result.method or result.bits):
        return Scheme(cache_bits=cache)
    result.spec_value = _spec_value(result)
    return Scheme(result, Hint(result.bits, result.group_size), own, cache)


def _method(q: Section) -> str:
    method = q.text("quant_method") or q.text("quant_algo", "quant_type")
    method = _METHODS.get(method.lower(), method)
    if method:
        return "awq" if method == "GEMM" else method
    if any(name in q for name in ("load_in_4bit", "load_in_8bit", "_load_in_4bit", "_load_in_8bit")):
        return "bitsandbytes"
    if "w_bit" in q:
        return "awq"
    if "desc_act" in q or "damp_percent" in q:
        return "gptq"
    # What MLX writes has no name in it: {"group_size": 64, "bits": 4}, and modules with widths of their own.
    return "mlx" if "bits" in q and "group_size" in q else ""


def _bits(q: Section) -> int:
    """Whole bits per weight; a rate such as 4.65 is rounded."""
    for name in ("bits", "w_bit", "num_bits", "nbits", "wbits"):
        value = q.values.get(name)
        if isinstance(value, str) and re.fullmatch(r"\d{1,2}(\.\d{1,3})?", value):
            value = float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 64:
            return max(round(value), 1)
    return 0


def _group_size(q: Section) -> int:
    size = q.values.get("group_size", q.values.get("q_group_size"))
    if isinstance(size, str) and re.fullmatch(r"\d{1,6}", size):
        size = int(size)
    return size if isinstance(size, int) and not isinstance(size, bool) and 0 < size < 1 << 31 else 0


def _read_bitsandbytes(q: Section, result: Quantization) -> bool:
    method = q.text("quant_method")
    four = q.flag("load_in_4bit") or q.flag("_load_in_4bit") or method.endswith("_4bit")
    eight = q.flag("load_in_8bit") or q.flag("_load_in_8bit") or method.endswith("_8bit")
    result.bits = 4 if four else 8
    result.format = q.text("bnb_4bit_quant_type", default="fp4") if four else "int8"
    return four or eight


def _read_compressed_tensors(q: Section, result: Quantization) -> bool:
    """https://github.com/vllm-project/compressed-tensors: groups of layers, each with a scheme for its weights.

    Of several schemes the narrowest is stated, and the format names all. False when no group quantizes weights.
    """
    groups = q.section("config_groups")
    found: dict[tuple[int, str], int] = {}
    for name in list(groups.values)[:_MAX_GROUPS]:
        weights = groups.section(name).section("weights")
        if weights:
            bits, form = _group_format(weights, groups.section(name).text("format") or q.text("format"))
            found.setdefault((bits, form), _group_size(weights))
    if not found and not groups and q.text("format") not in ("", "dense") and not q.text("format").startswith("sparse"):
        found[_group_format(Section({}), q.text("format"))] = result.group_size
    if not found:
        # Only sparse, or only the cache: the weights keep their precision.
        sparse = q.section("sparsity_config").text("format")
        result.format, result.bits = sparse, 0
        return bool(sparse) and sparse != "dense"
    (result.bits, form), result.group_size = min(found.items(), key=lambda item: item[0])
    result.format = form if len(found) == 1 else "+".join(sorted({form for _, form in found}))
    return True


def _group_format(weights: Section, layout: str) -> tuple[int, str]:
    bits = min(weights.stated_integer("num_bits") or 0, 64)
    kind = weights.text("type", default="int")
    if "nvfp4" in layout or "mxfp4" in layout:
        return 4, "nvfp4" if "nvfp4" in layout else "mxfp4"
    if "mxfp8" in layout:
        return 8, "mxfp8"
    if kind == "float" or layout.startswith("float"):
        bits = bits or 8
        return bits, "fp8_e4m3" if bits == 8 else f"fp{bits}"
    bits = bits or (4 if layout == "pack-quantized" else 8)
    return bits, f"int{bits}"


def _modelopt(q: Section) -> Quantization | None:
    """https://github.com/NVIDIA/TensorRT-Model-Optimizer: one algorithm, or a mixture of them by layer."""
    algorithm = q.text("quant_algo")
    result = Quantization(method="modelopt", group_size=_group_size(q))
    result.format = algorithm.lower()
    if algorithm.upper() in ("NONE", "NO_QUANT"):
        return None
    if "NVFP4" in algorithm:
        result.bits, result.format = 4, "nvfp4"
        result.group_size = result.group_size or 16
    elif "MXFP4" in algorithm or "MXFP8" in algorithm:
        result.bits, result.format, result.group_size = int(algorithm[algorithm.index("MXFP") + 4]), "mxfp4", 32
        result.format = f"mxfp{result.bits}"
    elif algorithm.startswith("FP8"):
        result.bits, result.format = 8, "fp8_e4m3"
    elif algorithm == "MIXED_PRECISION":
        result.bits = _fewest_bits(q)
    elif algorithm:
        match = _BITS_IN_NAME.search(algorithm)
        result.bits = int(match[1]) if match else 0
        # Four bits beside activations of eight are not what "int4" promises a server.
        if result.bits and "A8" not in algorithm:
            result.format = f"int{result.bits}"
    elif not _read_compressed_tensors(q, result):
        # Only the key-value cache, or nothing.
        return None
    return result


def _fewest_bits(q: Section) -> int:
    # There may be tens of thousands of layers, so the objects are read as they are.
    layers = q.section("quantized_layers").values.values()
    stated = (layer.get("quant_algo") for layer in layers if isinstance(layer, dict))
    algorithms = {each for each in stated if isinstance(each, str)}
    return 4 if any("FP4" in algorithm or "W4" in algorithm for algorithm in algorithms) else 8


def _read_torchao(q: Section, result: Quantization) -> None:
    """https://github.com/pytorch/ao: a word such as int4_weight_only, or an object with a class of its own."""
    words = q.text("quant_type")
    kinds = q.section("quant_type")
    for name in list(kinds.values)[:_MAX_GROUPS]:
        words = words or kinds.section(name).text("_type")
        result.group_size = result.group_size or _group_size(kinds.section(name).section("_data"))
    result.group_size = result.group_size or _group_size(q.section("quant_type_kwargs"))
    _read_word(words, result)


def _read_word(word: str, result: Quantization) -> None:
    for pattern, bits, form in _TORCHAO:
        # "int8_dynamic_activation_int4_weight" names the weights last.
        if pattern.search(word.lower().rpartition("activation")[2]):
            result.bits, result.format = bits, form
            return


def _read_hqq(q: Section, result: Quantization) -> None:
    """https://github.com/mobiusml/hqq: parameters of weights, for all layers or by layer."""
    inner = q.section("quant_config")
    weights = inner.section("weight_quant_params")
    if not weights:
        weights = next(
            (inner.section(name).section("weight_quant_params") for name in list(inner.values)[:_MAX_GROUPS]), weights
        )
    result.bits = _bits(weights) or result.bits
    result.group_size = _group_size(weights) or result.group_size
    result.format = f"int{result.bits}" if result.bits else ""


def _read_quark(q: Section, result: Quantization) -> None:
    """https://quark.docs.amd.com: a scheme for all layers and exceptions; each names the type of its weights."""
    weights: Any = q.section("global_quant_config").values.get("weight")
    first = weights[0] if isinstance(weights, list) and weights else weights
    scheme = Section(first if isinstance(first, Mapping) else {})
    result.bits, result.format = _DTYPES.get(scheme.text("dtype"), (0, ""))
    result.group_size = _group_size(scheme)
    if result.format == "fp4" and result.group_size == 32:
        result.format = "mxfp4"


def _read_quanto(q: Section, result: Quantization) -> None:
    result.bits, result.format = _DTYPES.get(q.text("weights"), (0, ""))


def _read_aqlm(q: Section, result: Quantization) -> None:
    """https://github.com/Vahe1994/AQLM: codes for groups of weights, into one or more codebooks."""
    code, books = q.stated_integer("nbits_per_codebook"), q.stated_integer("num_codebooks")
    group = q.stated_integer("in_group_size")
    if code and books and group and code * books // group <= 16:
        result.bits = max(round(code * books / group), 1)


def _read_vptq(q: Section, result: Quantization) -> None:
    """https://github.com/microsoft/VPTQ: indices into centroids of vectors, and of what they leave over."""
    layers = q.section("config_for_layers")
    for name in list(layers.values)[:1]:
        layer = layers.section(name)
        lengths, counts = layer.items("vector_lens"), [*layer.items("num_centroids"), *layer.items("num_res_centroids")]
        length = next((n for n in reversed(lengths) if isinstance(n, int) and n > 0), 0)
        rates = [math.log2(n) for n in counts if isinstance(n, int) and 1 < n < 1 << 32]
        result.bits = round(sum(rates) / length) if length else 0


def _read_fp_quant(q: Section, result: Quantization) -> None:
    result.bits, result.format = _DTYPES.get(q.text("forward_dtype"), (0, ""))
    result.group_size = {"mxfp4": 32, "nvfp4": 16}.get(result.format, 0)


_READERS = {
    "torchao": _read_torchao,
    "hqq": _read_hqq,
    "quark": _read_quark,
    "quanto": _read_quanto,
    "aqlm": _read_aqlm,
    "vptq": _read_vptq,
    "fp_quant": _read_fp_quant,
}
# Methods whose bits are a rate, of no number format.
_PACKED_BY_RATE = frozenset(("exl2", "exl3", "higgs", "spqr", "deepspeedfp", "quip", "gguf", "sinq", "vptq", "aqlm"))


def _own_widths(q: Section) -> dict[str, Hint]:
    own = {}
    for name, value in q.values.items():
        if isinstance(value, Mapping):
            stated = Section(value)
            own[name] = Hint(_bits(stated) or _bits(q), _group_size(stated) or _group_size(q))
    return own


def _spec_value(q: Quantization) -> str:
    if q.method == "fbgemm_fp8":
        return FBGEMM_FP8
    if q.format == "fp8_e4m3+fp4" or (q.method in _FP8_METHODS and q.format in ("fp8_e4m3", "fp8_e5m2")):
        return FP8
    if q.bits == 4 and q.format == "int4" and q.method in _INT4_METHODS:
        return INT4
    return ""


def _cache_bits(c: Section, side: Section) -> int:
    """Bits of a number in the key-value cache when the files state its quantization, else 0."""
    for section in text_sections(c):
        for name in _SECTIONS:
            if name not in section.values:
                continue
            scheme = section.section(name).section("kv_cache_scheme")
            try:
                bits = scheme.stated_integer("num_bits")
            except Undescribed:
                bits = None
            if bits:
                return min(bits, 64)
            stated = section.section(name).text("kv_cache_quant_algo")
            if stated:
                return _digits(stated)
    return _digits(side.section("quantization").text("kv_cache_quant_algo"))


def _digits(word: str) -> int:
    match = re.search(r"\d+", word)
    return int(match[0]) if match and len(match[0]) < 3 else 0

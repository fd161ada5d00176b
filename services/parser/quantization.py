"""How weights are quantized, by what the publisher wrote into config.json or hf_quant_config.json."""

import re

from ome.parser.v1.parser_pb2 import Quantization
from services.parser.context import text_sections
from services.parser.section import Section

FP8 = "fp8"
FBGEMM_FP8 = "fbgemm_fp8"
INT4 = "int4"

_SECTIONS = ("quantization_config", "compression_config")
_FLOAT_FORMATS = {"e4m3": "fp8_e4m3", "e5m2": "fp8_e5m2"}
_INT4_BY_4_BITS = ("gptq", "awq", "compressed-tensors", "auto-round", "hqq", "intel/auto-round", "autoround", "quark")
_BITS_IN_NAME = re.compile(r"(?:W|INT|FP|NF|w|int|fp|nf)(\d+)")


def quantization_of(c: Section, side: Section) -> Quantization | None:
    """The quantization of a model, or None; c is its configuration, side its hf_quant_config.json."""
    for section in text_sections(c):
        stated = section.section(*_SECTIONS)
        if stated:
            return _stated(stated, section, side.section("quantization"))
    if side:
        return _modelopt(side.section("quantization"))
    return None


def _stated(q: Section, c: Section, side: Section) -> Quantization:
    method = q.text("quant_method") or q.text("quant_algo", "quant_type")
    if not method and (q.flag("load_in_4bit") or q.flag("load_in_8bit")):
        method = "bitsandbytes"
    if method == "modelopt":
        return _modelopt(q.merged({"quant_algo": q.text("quant_algo") or side.text("quant_algo")}))
    result = Quantization(method=method, bits=min(q.stated_integer("bits", "w_bit", "num_bits") or 0, 64))
    result.group_size = _group_size(q)
    if method in ("fp8", "fbgemm_fp8"):
        result.bits = 8
        result.format = _FLOAT_FORMATS.get(q.text("fmt"), "fp8_e4m3")
        if c.text("expert_dtype") == "fp4":
            result.format = "fp8_e4m3+fp4"
    elif method == "mxfp4":
        result.bits, result.format, result.group_size = 4, "mxfp4", 32
    elif method in ("bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit"):
        four = q.flag("load_in_4bit") or q.flag("_load_in_4bit") or method.endswith("_4bit")
        result.bits = 4 if four else 8
        result.format = q.text("bnb_4bit_quant_type", default="fp4") if four else "int8"
    elif method == "compressed-tensors":
        _read_compressed_tensors(q, result)
    elif result.bits:
        result.format = f"int{result.bits}"
    result.spec_value = _spec_value(result)
    return result


def _group_size(q: Section) -> int:
    size = q.values.get("group_size", q.values.get("q_group_size"))
    return size if isinstance(size, int) and not isinstance(size, bool) and 0 < size < 1 << 31 else 0


def _read_compressed_tensors(q: Section, result: Quantization) -> None:
    """https://github.com/vllm-project/compressed-tensors: groups of layers, each with a scheme for its weights."""
    groups = q.section("config_groups")
    weights = Section({})
    for name in groups.values:
        weights = groups.section(name).section("weights")
        if weights:
            break
    result.bits = min(weights.stated_integer("num_bits") or result.bits, 64)
    result.group_size = _group_size(weights)
    kind = weights.text("type", default="int")
    layout = q.text("format")
    if "nvfp4" in layout:
        result.bits, result.format = 4, "nvfp4"
    elif "mxfp4" in layout:
        result.bits, result.format = 4, "mxfp4"
    elif kind == "float" or layout.startswith("float"):
        result.bits = result.bits or 8
        result.format = f"fp{result.bits}_e4m3" if result.bits == 8 else f"fp{result.bits}"
    else:
        result.bits = result.bits or (4 if layout == "pack-quantized" else 8)
        result.format = f"int{result.bits}"


def _modelopt(q: Section) -> Quantization:
    """https://github.com/NVIDIA/TensorRT-Model-Optimizer: one algorithm, or a mixture of them by layer."""
    algorithm = q.text("quant_algo")
    result = Quantization(method="modelopt", group_size=_group_size(q))
    result.format = algorithm.lower()
    if "NVFP4" in algorithm:
        result.bits, result.format = 4, "nvfp4"
        result.group_size = result.group_size or 16
    elif algorithm.startswith("FP8"):
        result.bits, result.format = 8, "fp8_e4m3"
    elif algorithm == "MIXED_PRECISION":
        result.bits = _fewest_bits(q)
    elif algorithm:
        match = _BITS_IN_NAME.search(algorithm)
        result.bits = int(match[1]) if match and len(match[1]) < 3 else 0
        result.format = f"int{result.bits}" if result.bits else algorithm.lower()
    result.spec_value = _spec_value(result)
    return result


def _fewest_bits(q: Section) -> int:
    # There may be tens of thousands of layers, so the objects are read as they are.
    layers = q.section("quantized_layers").values.values()
    algorithms = {str(layer.get("quant_algo")) for layer in layers if isinstance(layer, dict)}
    return 4 if any("FP4" in algorithm or "W4" in algorithm for algorithm in algorithms) else 8


def _spec_value(q: Quantization) -> str:
    if q.method == "fbgemm_fp8":
        return FBGEMM_FP8
    if q.format.startswith("fp8"):
        return FP8
    if q.bits == 4 and q.format == "int4":
        return INT4
    return ""


def cache_bits(c: Section, side: Section) -> int:
    """Bits of a number in the key-value cache when the files state its quantization, else 0."""
    for section in text_sections(c):
        scheme = section.section(*_SECTIONS).section("kv_cache_scheme")
        if scheme:
            return min(scheme.stated_integer("num_bits") or 0, 64)
    match = re.search(r"\d+", side.section("quantization").text("kv_cache_quant_algo"))
    return int(match[0]) if match and len(match[0]) < 3 else 0

"""Hypothesis strategies for model directories that a stranger might publish: nearly right, and plainly wrong."""

import json
from typing import Any

from hypothesis import strategies as st

from services.parser import catalogue
from tests.support.safetensors_files import header_of

File = tuple[str, int, bytes]

_SIZES = st.one_of(
    st.integers(0, 300), st.sampled_from([-1, 0, 1, 2**31, 2**63, 10**30]), st.just(1e308), st.just(float("nan"))
)
_SCALARS = st.one_of(st.none(), st.booleans(), _SIZES, st.floats(), st.text(max_size=8))
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
)
# Names that descriptions read, so that hostile values reach the arithmetic.
_NAMES = st.sampled_from(
    (
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size"),
        *("vocab_size", "head_dim", "n_embd", "n_layer", "n_head", "d_model", "num_layers", "num_experts", "depth"),
        *("num_local_experts", "num_experts_per_tok", "n_routed_experts", "n_shared_experts", "num_heads", "conv_dim"),
        *("moe_intermediate_size", "first_k_dense_replace", "kv_lora_rank", "q_lora_rank", "max_position_embeddings"),
        *("rope_scaling", "quantization_config", "text_config", "vision_config", "audio_config", "thinker_config"),
        *("architectures", "torch_dtype", "id2label", "layer_types", "block_configs", "hybrid_override_pattern"),
        *("compress_ratios", "block_out_channels", "patch_size", "image_size", "tie_word_embeddings", "conv_kernel"),
        *("num_nextn_predict_layers", "spatial_merge_size"),
    )
)


def configurations(model_types: tuple[str, ...] = ()) -> st.SearchStrategy[dict[str, Any]]:
    """Configurations of known model types with some values of any kind."""
    types = st.sampled_from(model_types or tuple(sorted(catalogue.known_model_types())))
    sizes = st.fixed_dictionaries(
        {"model_type": types},
        optional={
            name: st.integers(0, 64)
            for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
        },
    )
    odd = st.dictionaries(_NAMES, _VALUES, max_size=6)
    return st.builds(lambda usual, unusual: {**usual, **unusual}, sizes, odd)


def documents() -> st.SearchStrategy[bytes]:
    """Bytes of a configuration: JSON, damaged JSON, or noise."""
    written = configurations().map(lambda value: json.dumps(value).encode())
    damaged = st.builds(
        lambda data, at, byte: data[:at] + byte + data[at:], written, st.integers(0, 80), st.binary(max_size=4)
    )
    return st.one_of(written, damaged, st.binary(max_size=64))


def headers() -> st.SearchStrategy[tuple[int, bytes]]:
    """The size of a safetensors file and its first bytes: right, cut, with another length or with odd entries."""
    shapes = st.dictionaries(
        st.text(max_size=20),
        st.tuples(
            st.sampled_from(["F32", "BF16", "I32", "U8", "I8"]), st.lists(st.integers(0, 9), max_size=3).map(tuple)
        ),
        max_size=5,
    )
    right = shapes.map(header_of)
    cut = st.builds(lambda file, at: (file[0], file[1][:at]), right, st.integers(0, 60))
    lying = st.builds(
        lambda file, length: (file[0], length.to_bytes(8, "little") + file[1][8:]), right, st.integers(0, 2**64 - 1)
    )
    odd = _VALUES.map(lambda value: json.dumps({"a": value}).encode()).map(
        lambda text: (len(text) + 8, len(text).to_bytes(8, "little") + text)
    )
    return st.one_of(right, cut, lying, odd)


def directories() -> st.SearchStrategy[list[File]]:
    """Directories of a few such files under real and unsafe names."""
    names = st.sampled_from(
        [
            "config.json",
            "model_index.json",
            "hf_quant_config.json",
            "modules.json",
            "vae/config.json",
            "../config.json",
            "README.md",
        ]
    )
    index = st.dictionaries(st.sampled_from(["metadata", "weight_map"]), _VALUES).map(
        lambda value: json.dumps(value).encode()
    )
    metadata = st.builds(lambda name, data: (name, len(data), data), names, documents())
    indexes = index.map(lambda data: ("model.safetensors.index.json", len(data), data))
    weights = st.builds(
        lambda name, file: (name, *file),
        st.sampled_from(["model.safetensors", "model-00001-of-00002.safetensors"]),
        headers(),
    )
    return st.lists(st.one_of(metadata, indexes, weights), max_size=5)

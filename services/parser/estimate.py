"""Estimates the size of a network that no page describes, with a range that says how little is known."""

from collections.abc import Iterator

from services.parser.context import text_sections
from services.parser.section import Section, Undescribed
from services.parser.tally import Tally, attention, embedding, experts, gated, linear, norm

_WIDTHS = ("hidden_size", "n_embd", "d_model", "dim", "embed_dim", "model_dim")
_DEPTHS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "depth", "encoder_layers", "num_blocks")
_INNERS = ("intermediate_size", "ffn_hidden_size", "n_inner", "d_ff", "ffn_dim", "encoder_ffn_dim", "hidden_dim")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")
_SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
_DENSE = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "num_attention_groups")
_CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "num_experts_per_topk", "top_k_experts")
_EXPERT_WIDTHS = ("moe_intermediate_size", "expert_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size")
# What a configuration does not describe, such as a projector or a tower that it only names.
_UNDESCRIBED = 2 * 10**9
_MAX_DEPTH = 3
# Sections that describe no part of a network.
_NO_PARTS = frozenset(
    (
        *("id2label", "label2id", "rope_scaling", "rope_parameters", "quantization_config", "quantization", "auto_map"),
        *("compression_config", "task_specific_params", "pruned_heads", "generation_config"),
    )
)
# Alphabets are smaller; what speaks them is rarely built like a language model.
_SMALL_VOCABULARY = 1000
# Types of layers that keep keys and values of every token.
_CACHING = frozenset(("full_attention", "attention", "global_attention", "global", "mla", "attn", "full"))
# Words of configurations whose layers are not all of attention.
_HYBRID = ("mamba", "linear", "ssm", "conv", "recurrent", "kda", "rwkv", "lstm", "retention", "gla", "delta")


class Estimate:
    """A likely network and the smallest and largest that the same configuration could mean."""

    def __init__(self, likely: Tally, smallest: int, largest: int) -> None:
        self.likely = likely
        self.smallest = smallest
        self.largest = largest


def estimate(c: Section) -> Estimate:
    """An estimate for a decoder or encoder. Raises Undescribed when not even its width and depth are stated."""
    section = next((s for s in text_sections(c) if _stated(s, *_WIDTHS)), c)
    language = _language(c, section)
    if language.parameters <= 0:
        raise Undescribed("the configuration states no sizes")
    likely = language + Tally(sections_size(c, but=section))
    # At the least, what may not be there is not: experts without a width, tables beside the embeddings, other widths.
    least = min(language.parameters, _language(c, section, least=True).parameters)
    most = likely.parameters * 5 // 2 * _further_experts(section)
    if not _names_parts(c):
        return Estimate(likely, least // 3, most)
    if not _has_vocabulary(section) and "patch_size" not in section:
        raise Undescribed("the configuration describes neither a language model nor a vision tower")
    return Estimate(likely, least // 5, most + min(_UNDESCRIBED, 3 * likely.parameters))


def sections_size(c: Section, but: Section | None = None) -> int:
    """A guess at the size of the parts that the sections of a configuration describe, but for one of them."""
    return sum(_tower(section) for section in _inner(c, 0) if but is None or section.values is not but.values)


def _names_parts(c: Section) -> bool:
    """Whether a configuration speaks of parts that it may not describe, such as a tower."""
    parts = (key for key, value in c.values.items() if isinstance(value, dict) and key not in _NO_PARTS)
    words = ("vision", "visual", "image", "audio", "speech", "video", "mel_bins", "encoder")
    return any(parts) or any(word in key.lower() for key in c.values for word in words if "token" not in key)


def _has_vocabulary(section: Section) -> bool:
    return (_stated(section, "vocab_size", "padded_vocab_size")) >= _SMALL_VOCABULARY


def _depth(section: Section) -> int:
    both = (section.stated_integer("encoder_layers") or 0) + (section.stated_integer("decoder_layers") or 0)
    return both or section.integer(*_DEPTHS)


def _language(c: Section, section: Section, least: bool = False) -> Tally:
    widths = [width for name in _WIDTHS if (width := _stated(section, name))]
    width, depth = min(widths) if least and widths else section.integer(*_WIDTHS), _depth(section)
    heads = section.integer(*_HEADS, default=max(width // 128, 1)) or 1
    inner = _stated(section, *_INNERS) or 4 * width
    entries = section.integer("vocab_size", "padded_vocab_size", default=0)
    attending = _attention(section, width, heads, depth) + depth * 2 * norm(width)
    count = _stated(section, *_EXPERTS)
    if least and not _stated(section, *_EXPERT_WIDTHS):
        count = min(count, 1)
    chosen = _stated(section, *_CHOSEN) or 1
    expert = _stated(section, *_EXPERT_WIDTHS) or inner
    blocks = depth * gated(width, inner)
    if count > 1:
        shared = expert * _stated(section, *_SHARED)
        block = experts(count, chosen, gated(width, expert)) + linear(width, count) + gated(width, shared)
        dense = min(_stated(section, *_DENSE), depth)
        blocks = (depth - dense) * block + dense * gated(width, inner)
    tied = section.flag("tie_word_embeddings", default=c.flag("tie_word_embeddings"))
    tables = embedding(entries, width) + (Tally() if tied else linear(width, entries))
    side = 0 if least else section.stated_integer("hidden_size_per_layer_input") or 0
    tables += embedding(section.integer("vocab_size_per_layer_input", default=entries), depth * side)
    return attending + blocks + tables


def _attention(section: Section, width: int, heads: int, depth: int) -> Tally:
    kv_heads = _stated(section, *_KV_HEADS) or heads
    head = section.stated_integer("head_dim") or max(width // heads, 1)
    attending, cached = attention(width, heads, kv_heads, head), 2 * kv_heads * head
    rank = section.stated_integer("kv_lora_rank")
    if rank:
        rotary = section.stated_integer("qk_rope_head_dim") or 0
        inside = (section.stated_integer("qk_nope_head_dim") or head) + rotary
        query = section.stated_integer("q_lora_rank") or 0
        queries = linear(width, query) + linear(query, heads * inside) if query else linear(width, heads * inside)
        values = heads * (section.stated_integer("v_head_dim") or head)
        keys = linear(width, rank + rotary) + linear(rank, heads * (inside - rotary) + values)
        attending, cached = queries + keys + linear(values, width), rank + rotary
    # Other mixers are about as large as attention, but keep no keys.
    return Tally(depth * attending.parameters, cached=_caching_layers(section, depth) * cached)


def _caching_layers(section: Section, depth: int) -> int:
    """How many layers keep keys and values of all tokens; none when that cannot be told."""
    for name in ("layer_types", "layers_block_type", "block_types", "attention_types"):
        types = section.items(name)[:depth]
        if types:
            return sum(1 for kind in types if isinstance(kind, str) and kind.lower() in _CACHING)
    linear_attention = section.section("linear_attn_config")
    if linear_attention.items("full_attn_layers"):
        return min(len(linear_attention.items("full_attn_layers")), depth)
    if any(word in key.lower() for key in section.values for word in _HYBRID):
        return 0
    return depth


def _further_experts(section: Section) -> int:
    """What a number of experts under a name that is not known could multiply the model by."""
    if _stated(section, *_EXPERTS) > 1:
        return 1
    named = (value for key, value in section.values.items() if "expert" in key.lower() or "moe_num" in key.lower())
    numbers = [value for value in named if isinstance(value, int) and not isinstance(value, bool) and 1 < value < 4096]
    return max(numbers, default=1)


def _inner(c: Section, depth: int) -> Iterator[Section]:
    if depth >= _MAX_DEPTH:
        return
    for name, value in list(c.values.items())[:1000]:
        if isinstance(value, dict):
            inner = c.section(name)
            yield inner
            yield from _inner(inner, depth + 1)


def _tower(section: Section) -> int:
    try:
        width, depth = _stated(section, *_WIDTHS), _stated(section, *_DEPTHS)
        inner = _stated(section, *_INNERS) or 4 * width
    except Undescribed:
        return 0
    if not width or not depth or width > 1 << 16 or depth > 1 << 10 or inner > 1 << 20:
        return 0
    entries = section.values.get("vocab_size")
    if not isinstance(entries, int) or isinstance(entries, bool) or not 0 < entries < 1 << 20:
        entries = 0
    return depth * (attention(width, 1) + gated(width, inner)).parameters + entries * width


def _stated(section: Section, *names: str) -> int:
    """The first size that is stated, the largest where it is one per layer or per modality; zero when there is none."""
    for name in names:
        value = section.values.get(name)
        if isinstance(value, list):
            sizes = [item for item in value[:1000] if isinstance(item, int) and not isinstance(item, bool)]
            if sizes and max(sizes) < 1 << 40:
                return max(0, *sizes)
        elif value is not None:
            found = section.stated_integer(name)
            if found:
                return found
    return 0

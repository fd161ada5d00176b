"""Gemma 4: full and windowed layers with heads of their own widths, shared keys, per-layer inputs, three modalities."""

from services.parser.network import Family, Network, with_head
from services.parser.section import Section
from services.parser.tally import Tally, convolution, embedding, experts, gated, linear, norm, uncached


def gemma4(c: Section) -> Network:
    """Gemma 4 with its vision tower and, in small models, its audio tower."""
    text, vision, audio = c.section("text_config"), c.section("vision_config"), c.section("audio_config")
    language = gemma4_text(text.merged({"architectures": ["Gemma4ForCausalLM"]}))
    width = text.integer("hidden_size")
    parts = dict(language.parts)
    if vision:
        parts["vision_tower"] = _vision(vision) + linear(vision.integer("hidden_size"), width)
    if audio:
        out = audio.integer("output_proj_dims", default=1536)
        parts["audio_tower"] = _audio(audio, out) + linear(out, width)
    return Network(parts)


def gemma4_text(c: Section) -> Network:
    """The language model."""
    width, depth = c.integer("hidden_size"), c.integer("num_hidden_layers")
    entries, tied = c.integer("vocab_size"), c.flag("tie_word_embeddings", default=True)
    types = c.items("layer_types")
    borrowing = depth - (c.stated_integer("num_kv_shared_layers") or 0)
    side = c.stated_integer("hidden_size_per_layer_input") or 0
    layers = Tally()
    for index in range(depth):
        full = types[index] == "full_attention" if index < len(types) else (index + 1) % 6 == 0
        shares = index >= borrowing
        layers += _attention(c, full, shares) + _feed_forward(c, shares) + 4 * norm(width)
        layers += linear(width, side) + linear(side, width) + norm(width) if side else 0
    tables = embedding(entries, width)
    if side:
        tables += embedding(c.integer("vocab_size_per_layer_input", default=entries), depth * side)
        tables += linear(width, depth * side) + norm(side)
    return Network({"embeddings": tables, "layers": layers + norm(width), "head": with_head(c, width, tied, entries)})


def _attention(c: Section, full: bool, shares: bool) -> Tally:
    """A layer that shares takes keys and values from an earlier one; a full layer's values may be its keys."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    head = c.integer("global_head_dim", "head_dim", default=512) if full else c.integer("head_dim", default=256)
    alike = full and c.flag("attention_k_eq_v")
    kv_heads = c.integer("num_key_value_heads")
    if alike:
        kv_heads = c.stated_integer("num_global_key_value_heads") or kv_heads
    queries = linear(width, heads * head) + norm(head) + linear(heads * head, width)
    if shares:
        return queries
    keys = (1 if alike else 2) * linear(width, kv_heads * head) + norm(head)
    # A windowed layer keeps no more than its window, however long the context is.
    return queries + keys + Tally(cached=2 * kv_heads * head if full else 0)


def _feed_forward(c: Section, shares: bool) -> Tally:
    width, inner = c.integer("hidden_size"), c.integer("intermediate_size")
    block = gated(width, 2 * inner if shares and c.flag("use_double_wide_mlp") else inner)
    if not c.flag("enable_moe_block"):
        return block
    count, chosen = c.integer("num_experts"), c.integer("top_k_experts", "num_experts_per_tok", default=8)
    mixture = experts(count, chosen, gated(width, c.integer("moe_intermediate_size", "expert_intermediate_size")))
    router = linear(width, count) + width + count
    return block + mixture + router + 3 * norm(width)


def _vision(v: Section) -> Tally:
    width, heads = v.integer("hidden_size"), v.integer("num_attention_heads")
    head, kv_heads = v.integer("head_dim", default=width // heads), v.integer("num_key_value_heads", default=heads)
    projections = linear(width, (heads + 2 * kv_heads) * head) + linear(heads * head, width)
    layer = projections + 2 * norm(head) + gated(width, v.integer("intermediate_size")) + 4 * norm(width)
    patches = linear(3 * v.integer("patch_size") ** 2, width)
    table = 2 * embedding(v.integer("position_embedding_size", default=10240), width)
    return uncached(patches + table + v.integer("num_hidden_layers") * layer)


def _audio(a: Section, out: int) -> Tally:
    """A conformer: two half feed-forward blocks around attention and a convolution over time."""
    width, heads = a.integer("hidden_size"), a.integer("num_attention_heads")
    first, second = a.integers("subsampling_conv_channels", default=(128, 32))
    # 128 bands of frequency, halved twice.
    stem = convolution(1, first, 3, 3, bias=False) + norm(first) + convolution(first, second, 3, 3, bias=False)
    stem += norm(second) + linear(second * 32, width)
    half = linear(width, 4 * width) + linear(4 * width, width) + 2 * norm(width)
    kernel = a.integer("conv_kernel_size", default=5)
    local = linear(width, 2 * width) + linear(width, width) + width * kernel + 2 * norm(width)
    attending = 5 * linear(width, width) + width // heads
    layer = 2 * half + attending + local + 3 * norm(width)
    return stem + a.integer("num_hidden_layers") * layer + linear(width, out, bias=True)


FAMILIES = (
    Family(
        ("gemma4",),
        gemma4,
        classes=("Gemma4ForConditionalGeneration",),
        ignores=frozenset(
            (
                "use_bidirectional_attention",
                "vocab_size_per_layer_input",
                "pooling_kernel_size",
                "standardize",
                "video_seq_length",
                "attention_context_left",
                "attention_context_right",
                "attention_invalid_logits_value",
                "gradient_clipping",
                "residual_weight",
                "global_head_dim",
                "use_clipped_linears",
            )
        ),
        assumes={"attention_bias": (False,), "tie_word_embeddings": (True,), "use_double_wide_mlp": (False,)},
        parts=("gemma4_text", "gemma4_vision", "gemma4_audio"),
    ),
    Family(
        ("gemma4_text",),
        gemma4_text,
        classes=("Gemma4TextModel", "Gemma4ForCausalLM"),
        ignores=frozenset(
            (
                "use_bidirectional_attention",
                "vocab_size_per_layer_input",
            )
        ),
        assumes={"attention_bias": (False,), "tie_word_embeddings": (True,), "use_double_wide_mlp": (False,)},
    ),
)

"""GLM: ChatGLM 2 and 3, GLM-4, its dense successors and GLM-4.5 with experts."""

from services.parser.families.deepseek import prediction_layers
from services.parser.layers import gated_layer, grouped_attention, routed
from services.parser.network import DECODER, Family, Network, classes, decoder
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, embedding, gated, linear, norm, plain, uncached


def chatglm(c: Section) -> Network:
    """ChatGLM 2, ChatGLM 3 and the first GLM-4: the head is untied and stored even by the bare class."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    head_width, depth = c.integer("kv_channels"), c.integer("num_layers")
    kv_heads = c.integer("multi_query_group_num") if c.flag("multi_query_attention") else heads
    bias = c.flag("add_bias_linear")
    layer = (
        attention(width, heads, kv_heads, head_width, bias=bias or c.flag("add_qkv_bias"), output_bias=bias)
        + gated(width, c.integer("ffn_hidden_size"), bias)
        + 2 * norm(width)
    )
    entries = c.integer("padded_vocab_size")
    parts = {
        "embeddings": embedding(entries, width),
        "layers": depth * layer + norm(width),
        "head": linear(width, entries),
    }
    vision = c.section("vision_config")
    if not vision:
        return Network(parts)
    return Network(
        {**parts, "vision_tower": _tower(c, vision)},
        exact=False,
        why="the end of GLM-4V's vision tower is in its code, not in its configuration",
    )


def _tower(c: Section, v: Section) -> Tally:
    """EVA-CLIP in GLM-4V, whose grid of patches is halved and passes a gated block."""
    seen, patch, width = v.integer("hidden_size"), v.integer("patch_size"), c.integer("hidden_size")
    layer = attention(seen, v.integer("num_heads"), bias=True) + plain(seen, v.integer("intermediate_size"))
    layers = v.integer("num_hidden_layers") * (layer + 2 * norm(seen, bias=True))
    stem = convolution(v.integer("in_channels", default=3), seen, patch, patch)
    stem += embedding(v.integer("num_positions") + 1, seen)
    inner = c.integer("ffn_hidden_size")
    projector = convolution(seen, width, 2, 2) + linear(width, width) + norm(width, bias=True) + gated(width, inner)
    # Tokens mark where a picture begins and ends.
    return uncached(stem + layers) + projector + 2 * width


def glm4(c: Section) -> Network:
    """GLM-4 0414: norms before and after both blocks."""
    layer = gated_layer(c, output_bias=False, norms=4)
    return decoder(c, c.integer("num_hidden_layers") * layer, c.integer("hidden_size"))


def glm(c: Section) -> Network:
    """GLM-4 9B in the library's format."""
    return decoder(c, c.integer("num_hidden_layers") * gated_layer(c, output_bias=False), c.integer("hidden_size"))


def glm4v_text(c: Section) -> Network:
    """The language model of GLM-4.1V, whose queries, keys and values have biases whatever the configuration says."""
    layer = gated_layer(c, bias=True, output_bias=False, norms=4)
    return decoder(c, c.integer("num_hidden_layers") * layer, c.integer("hidden_size"))


def glm4_moe(c: Section) -> Network:
    """GLM-4.5: dense layers first, then routed and shared experts."""
    width = c.integer("hidden_size")
    attending = grouped_attention(c, output_bias=False, head_norm=c.flag("use_qk_norm")) + 2 * norm(width)
    inner = c.integer("moe_intermediate_size")
    mixture = routed(
        width,
        c.integer("n_routed_experts"),
        c.integer("num_experts_per_tok"),
        inner,
        shared_inner=inner * c.integer("n_shared_experts", default=1),
    )
    dense = c.integer("first_k_dense_replace", default=1)
    depth = c.integer("num_hidden_layers")
    layers = depth * attending + dense * gated(width, c.integer("intermediate_size")) + (depth - dense) * mixture
    return decoder(c, layers, width, prediction=prediction_layers(c, attending + mixture))


FAMILIES = (
    Family(
        ("chatglm",),
        chatglm,
        classes=("ChatGLMModel", "ChatGLMForConditionalGeneration"),
        ignores=frozenset(
            ("apply_residual_connection_post_layernorm", "num_hidden_layers", "pre_seq_len", "prefix_projection")
        ),
        assumes={"rmsnorm": (True,), "tie_word_embeddings": (False,)},
    ),
    Family(("glm4", "hyperclovax"), glm4, classes=classes(DECODER, "Glm4", "HyperCLOVAX")),
    Family(("glm",), glm, classes=classes(DECODER, "Glm")),
    Family(("glm4v_text",), glm4v_text, classes=("Glm4vTextModel",), ignores=frozenset(("attention_bias",))),
    Family(
        ("glm4_moe", "glm4v_moe_text"),
        glm4_moe,
        classes=("Glm4MoeModel", "Glm4MoeForCausalLM", "Glm4vMoeTextModel"),
    ),
)

"""Llama 4: routed experts beside a shared one in some or all layers, and a vision tower with pixel shuffle."""

from services.parser.layers import grouped_attention, routed
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, attention, embedding, gated, linear, norm, plain, uncached


def llama4(c: Section) -> Network:
    """Scout and Maverick."""
    language, vision = llama4_text(c.section("text_config")), c.section("vision_config")
    if not vision:
        return Network(language.parts, exact=False, why="vision_config is missing, so the vision tower is not counted")
    width = c.section("text_config").integer("hidden_size")
    projector = linear(vision.integer("vision_output_dim", default=4096), width)
    return Network({**language.parts, "vision_tower": _tower(vision), "projector": projector})


def llama4_text(c: Section) -> Network:
    """The language model; every interleave_moe_layer_step-th layer has experts."""
    width, depth = c.integer("hidden_size"), c.integer("num_hidden_layers")
    inner = c.integer("intermediate_size")
    mixture = routed(
        width,
        c.integer("num_local_experts", default=16),
        c.integer("num_experts_per_tok", default=1),
        inner,
        shared_inner=inner,
    )
    step = c.integer("interleave_moe_layer_step", default=1)
    listed = [index for index in c.items("moe_layers") if isinstance(index, int) and index < depth]
    sparse = len(listed) or len(range(step - 1, depth, step))
    attending = grouped_attention(c) + 2 * norm(width)
    dense = (depth - sparse) * gated(width, c.integer("intermediate_size_mlp", default=16384))
    network = c.merged({"architectures": c.values.get("architectures") or ["Llama4ForCausalLM"]})
    return decoder(network, depth * attending + sparse * mixture + dense, width)


def _tower(v: Section) -> Tally:
    width, patch = v.integer("hidden_size", default=768), v.integer("patch_size", default=14)
    inner, joined = v.integer("intermediate_size", default=5632), v.integer("projector_input_dim", default=4096)
    places = (v.integer("image_size", default=448) // patch) ** 2 + 1
    layer = attention(width, v.integer("num_attention_heads", default=16), bias=True) + plain(width, inner)
    layers = v.integer("num_hidden_layers", default=34) * (layer + 2 * norm(width, bias=True))
    stem = linear(v.integer("num_channels", default=3) * patch**2, width) + width + embedding(places, width)
    # What four neighbouring patches make is as wide as a block inside.
    out = v.integer("projector_output_dim", default=4096)
    adapter = linear(inner, joined) + linear(out, out)
    return uncached(stem + layers + 2 * norm(width, bias=True)) + adapter


FAMILIES = (
    Family(
        ("llama4",),
        llama4,
        capabilities=("TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT"),
        classes=("Llama4ForConditionalGeneration",),
        ignores=frozenset(
            (
                "for_llm_compressor",
                "pixel_shuffle_ratio",
                "multi_modal_projector_bias",
                "use_qk_norm",
                "nope_layer_interval",
                "moe_layers",
                "vision_output_dim",
            )
        ),
        assumes={"tie_word_embeddings": (True,)},
        parts=("llama4_text", "llama4_vision_model"),
    ),
    Family(
        ("llama4_text",),
        llama4_text,
        classes=("Llama4TextModel", "Llama4ForCausalLM"),
        ignores=frozenset(("for_llm_compressor", "use_qk_norm", "nope_layer_interval")),
    ),
)

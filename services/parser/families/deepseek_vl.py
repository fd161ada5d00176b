"""DeepSeek-VL2: the experts of DeepSeek V2, with latent or with plain attention, behind SigLIP."""

from services.parser.families import clip
from services.parser.families.deepseek import latent_attention, mixture
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, embedding, gated, linear, norm, uncached

_HEADS = 16
# SigLIP so400m at 384 pixels, which the configuration names.
_PIXELS = 384


def deepseek_vl2(c: Section) -> Network:
    """DeepSeek-VL2 tiny, small and base."""
    t, v = c.section("language_config"), c.section("vision_config")
    width, depth = t.integer("hidden_size"), t.integer("num_hidden_layers")
    dense = t.integer("first_k_dense_replace", default=0)
    if t.flag("use_mla", default=True):
        attending = latent_attention(t)
    else:
        attending = attention(width, t.integer("num_attention_heads"), t.stated_integer("num_key_value_heads"))
    layers = depth * (attending + 2 * norm(width)) + dense * gated(width, t.integer("intermediate_size"))
    language = decoder(t, layers + (depth - dense) * mixture(t), width)
    seen = v.integer("width", default=1152)
    projector = linear(4 * seen, width, bias=True) + linear(width, width, bias=True) + 2 * width
    return Network(
        {**language.parts, "vision_tower": _tower(v, seen), "projector": projector},
        exact=False,
        why="the vision tower of DeepSeek-VL2 is named rather than described",
    )


def _tower(v: Section, width: int) -> Tally:
    patch = v.integer("patch_size", default=14)
    inner = int(width * v.number("mlp_ratio", default=4.0))
    stack = {"hidden_size": width, "intermediate_size": inner, "num_attention_heads": _HEADS}
    layers = clip.layers(v.merged({**stack, "num_hidden_layers": v.integer("layers", default=27)}))
    positions = embedding((_PIXELS // patch) ** 2, width)
    pooling = attention(width, _HEADS, bias=True) + 2 * linear(width, inner, bias=True) + 3 * norm(width, bias=True)
    return layers + convolution(3, width, patch, patch) + positions + uncached(pooling)


FAMILIES = (
    Family(
        ("deepseek_vl_v2",),
        deepseek_vl2,
        capabilities=("TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT"),
        classes=("DeepseekVLV2ForCausalLM",),
    ),
)

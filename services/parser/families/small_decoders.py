"""Decoders that differ from Llama in one thing: NanoChat has no norms, Jais 2 LayerNorms, Hunyuan norms over heads."""

from services.parser.families.arcee import nemotron
from services.parser.layers import gated_layer, grouped_attention
from services.parser.network import DECODER, Family, Network, classes, decoder
from services.parser.section import Section
from services.parser.tally import Tally, experts, linear, norm, plain


def nanochat(c: Section) -> Network:
    """NanoChat: norms without weights."""
    width = c.integer("hidden_size")
    layer = grouped_attention(c) + plain(width, c.integer("intermediate_size"), bias=False)
    return decoder(c, c.integer("num_hidden_layers") * layer, width, norms=0)


def jais2(c: Section) -> Network:
    """Jais 2: squared ReLU, LayerNorms and biases."""
    return nemotron(c.with_defaults({"attention_bias": True, "mlp_bias": True}))


def hunyuan_dense(c: Section) -> Network:
    """Hunyuan dense 0.5B to 7B."""
    layer = gated_layer(c, head_norm=c.flag("use_qk_norm", default=True))
    return decoder(c, c.integer("num_hidden_layers") * layer, c.integer("hidden_size"))


def jetmoe(c: Section) -> Network:
    """JetMoE: experts of attention, which share keys and values, and experts of feed-forward blocks; always tied."""
    width, heads = c.integer("hidden_size"), c.integer("num_key_value_heads")
    count, chosen = c.integer("num_local_experts"), c.integer("num_experts_per_tok")
    inner, keys = c.integer("intermediate_size"), heads * c.integer("kv_channels", default=128)
    attending = experts(count, chosen, linear(width, keys) + linear(keys, width)) + linear(width, 2 * keys)
    block = experts(count, chosen, linear(width, 2 * inner) + linear(inner, width))
    # Each mixture has a router and one bias for all of its experts.
    routing = 2 * (linear(width, count) + width)
    layer = attending + block + routing + 2 * norm(width) + Tally(cached=2 * keys)
    return decoder(c, c.integer("num_hidden_layers") * layer, width, tied=True)


def helium(c: Section) -> Network:
    """Helium: the last projection of attention is a square, whatever the width of heads."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    head = c.stated_integer("head_dim") or width // heads
    layer = gated_layer(c, output_bias=False) + Tally(width * width - heads * head * width)
    return decoder(c, c.integer("num_hidden_layers") * layer, width)


def apertus(c: Section) -> Network:
    """Apertus: norms over heads, and an activation with two parameters of its own in each layer."""
    width = c.integer("hidden_size")
    layer = grouped_attention(c, head_norm=True) + plain(width, c.integer("intermediate_size"), c.flag("mlp_bias")) + 2
    return decoder(c, c.integer("num_hidden_layers") * (layer + 2 * norm(width)), width)


def olmo(c: Section) -> Network:
    """OLMo 1: norms without weights."""
    layer = gated_layer(c, norms=0)
    return decoder(c, c.integer("num_hidden_layers") * layer, c.integer("hidden_size"), norms=0)


FAMILIES = (
    Family(
        ("apertus",),
        apertus,
        classes=("ApertusModel", "ApertusForCausalLM"),
        ignores=frozenset(("post_norm",)),
        assumes={"hidden_act": ("xielu",), "qk_norm": (True,)},
    ),
    Family(("olmo",), olmo, classes=("OlmoModel", "OlmoForCausalLM")),
    Family(("helium",), helium, classes=classes(DECODER, "Helium")),
    Family(("nanochat",), nanochat, classes=("NanoChatModel", "NanoChatForCausalLM")),
    Family(("jais2",), jais2, classes=("Jais2Model", "Jais2ForCausalLM"), ignores=frozenset(("head_dim",))),
    Family(
        ("hunyuan_v1_dense",),
        hunyuan_dense,
        classes=classes(DECODER, "HunYuanDenseV1"),
        ignores=frozenset(("attention_head_dim", "org_vocab_size", "use_rotary_pos_emb", "sep_id", "im_start_id")),
        assumes={"use_cla": (False,), "norm_type": ("rms",)},
    ),
    Family(
        ("jetmoe",),
        jetmoe,
        classes=("JetMoeModel", "JetMoeForCausalLM"),
        ignores=frozenset(("num_attention_heads", "bias", "num_layers", "glu", "rotary_percent")),
    ),
)

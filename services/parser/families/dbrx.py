"""DBRX: clipped attention with LayerNorms without bias, and sixteen experts."""

from services.parser.layers import routed
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import attention, norm


def dbrx(c: Section) -> Network:
    """DBRX."""
    width = c.integer("d_model")
    attn, ffn = c.section("attn_config"), c.section("ffn_config")
    mixture = routed(
        width,
        ffn.integer("moe_num_experts", default=4),
        ffn.integer("moe_top_k", default=1),
        ffn.integer("ffn_hidden_size", default=3584),
    )
    layer = attention(width, c.integer("n_heads"), attn.integer("kv_n_heads", default=1)) + mixture + 2 * norm(width)
    return decoder(c, c.integer("n_layers") * layer, width)


FAMILIES = (
    Family(
        ("dbrx",),
        dbrx,
        classes=("DbrxForCausalLM",),
        ignores=frozenset(
            (
                "ffn_act_fn",
                "move_model_to_device",
                "uniform_expert_assignment",
                "moe_normalize_expert_weights",
                "verbose",
            )
        ),
        parts=("", "dbrx"),
    ),
)

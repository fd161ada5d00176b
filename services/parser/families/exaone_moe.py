"""K-EXAONE, dots.llm1 and Hunyuan 3: norms over each head, a few dense layers, then routed and shared experts."""

from services.parser.layers import grouped_attention, routed
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import gated, norm


def exaone_moe(c: Section) -> Network:
    """K-EXAONE."""
    return _mixture(c)


def dots1(c: Section) -> Network:
    """dots.llm1, whose last projection of attention never has a bias."""
    if c.flag("attention_bias"):
        c.doubt("with biases, attention is not described")
    return _mixture(c)


def hy_v3(c: Section) -> Network:
    """Hunyuan 3."""
    return _mixture(c)


def _mixture(c: Section) -> Network:
    width, depth = c.integer("hidden_size"), c.integer("num_hidden_layers")
    inner = c.integer("moe_intermediate_size", "expert_hidden_dim")
    shared = c.stated_integer("num_shared_experts", "n_shared_experts") or 0
    mixture = routed(
        width,
        c.integer("num_experts", "n_routed_experts"),
        c.integer("num_experts_per_tok"),
        inner,
        shared_inner=inner * shared,
    )
    types = c.items("mlp_layer_types")[:depth]
    dense = types.count("dense") if types else min(c.integer("first_k_dense_replace"), depth)
    attending = grouped_attention(c, head_norm=True) + 2 * norm(width)
    layers = depth * attending + (depth - dense) * mixture
    layers += dense * gated(width, c.integer("intermediate_size"))
    return decoder(c, layers, width)


_IGNORED = frozenset(("first_k_dense_replace", "is_moe_layer", "enable_moe_fp32_combine", "enable_lm_head_fp32"))

FAMILIES = (
    Family(
        ("exaone_moe",),
        exaone_moe,
        classes=("ExaoneMoeModel", "ExaoneMoeForCausalLM"),
        ignores=_IGNORED | {"num_nextn_predict_layers", "mtp_loss_scaling_factor", "mtp_share_layers"},
        assumes={"attention_bias": (False,)},
    ),
    Family(("dots1",), dots1, classes=("Dots1Model", "Dots1ForCausalLM"), ignores=_IGNORED),
    Family(
        ("hy_v3",),
        hy_v3,
        classes=("HYV3Model", "HYV3ForCausalLM"),
        ignores=_IGNORED | {"num_nextn_predict_layers"},
        assumes={"moe_router_use_sigmoid": (True,), "qk_norm": (True,), "mlp_bias": (False,)},
    ),
)

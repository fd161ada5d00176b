"""LongCat Flash: two latent attentions and two dense blocks per layer, and experts of which some do nothing."""

from services.parser.families.deepseek import latent_attention
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import experts, gated, linear, norm


def longcat_flash(c: Section) -> Network:
    """LongCat Flash."""
    width, count = c.integer("hidden_size"), c.integer("n_routed_experts")
    # Experts that pass a token on as it is have no weights, though the library reserves some for them.
    router = linear(width, count + c.integer("zero_expert_num", default=0), c.flag("router_bias"))
    mixture = experts(count, c.integer("moe_topk"), gated(width, c.integer("expert_ffn_hidden_size")))
    half = latent_attention(c) + gated(width, c.integer("ffn_hidden_size")) + 2 * norm(width)
    layer = 2 * half + mixture + router
    c.doubt("the library reserves weights for experts that have none")
    return decoder(c, c.integer("num_layers") * layer, width)


FAMILIES = (
    Family(
        ("longcat_flash",),
        longcat_flash,
        classes=("LongcatFlashModel", "LongcatFlashForCausalLM"),
        ignores=frozenset(
            ("num_key_value_heads", "head_dim", "mla_scale_q_lora", "mla_scale_kv_lora", "zero_expert_type")
        ),
        assumes={"attention_method": ("MLA",)},
    ),
)

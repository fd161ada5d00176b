"""MiniMax M2 and M3: norms over all queries and keys, many small experts, in M3 a vision tower and sparse attention."""

from services.parser.layers import grouped_attention, routed
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import norm


def minimax_m2(c: Section) -> Network:
    """MiniMax M2 to M2.7."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    head_width = c.stated_integer("head_dim") or width // heads
    head_norms = norm((heads + c.integer("num_key_value_heads")) * head_width) if c.flag("use_qk_norm", default=True) else 0
    count, chosen = c.integer("num_local_experts"), c.integer("num_experts_per_tok")
    layer = grouped_attention(c) + head_norms + routed(width, count, chosen, c.integer("intermediate_size"))
    return decoder(c, c.integer("num_hidden_layers") * (layer + 2 * norm(width)), width)


FAMILIES = (Family(("minimax_m2",), minimax_m2),)

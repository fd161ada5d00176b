"""The layer that most decoders share, read from the names that most configurations use."""

from services.parser.section import Section
from services.parser.tally import Tally, attention, experts, gated, linear, norm


def grouped_attention(
    c: Section, *, bias: bool | None = None, output_bias: bool | None = None, head_norm: bool = False
) -> Tally:
    """Grouped-query attention; biases follow attention_bias unless given.

    head_norm adds a norm of a head's width over queries and one over keys.
    """
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    head_width = c.stated_integer("head_dim") or width // heads
    kv_heads = c.stated_integer("num_key_value_heads") or heads
    stated = c.flag("attention_bias")
    projections = attention(
        width,
        heads,
        kv_heads,
        head_width,
        bias=stated if bias is None else bias,
        output_bias=stated if output_bias is None else output_bias,
    )
    return projections + (2 * norm(head_width) if head_norm else Tally())


def gated_layer(
    c: Section,
    *,
    bias: bool | None = None,
    output_bias: bool | None = None,
    head_norm: bool = False,
    norms: int = 2,
) -> Tally:
    """Grouped-query attention, a gated feed-forward block, and norms."""
    width = c.integer("hidden_size")
    return (
        grouped_attention(c, bias=bias, output_bias=output_bias, head_norm=head_norm)
        + gated(width, c.integer("intermediate_size"), c.flag("mlp_bias"))
        + norms * norm(width)
    )


def routed(
    width: int, count: int, chosen: int, inner: int, *, shared_inner: int = 0, router_bias: bool = False
) -> Tally:
    """A mixture of gated experts with its router, and shared experts of one width together."""
    mixture = experts(count, chosen, gated(width, inner)) + linear(width, count, router_bias)
    return mixture + (gated(width, shared_inner) if shared_inner else Tally())

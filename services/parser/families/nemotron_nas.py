"""Llama Nemotron, found by architecture search: each layer states its own attention and feed-forward block."""

from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, attention, gated, linear, norm

# https://huggingface.co/nvidia/Llama-3_1-Nemotron-51B-Instruct: widths are rounded up to this.
_MULTIPLE = 256


def nemotron_nas(c: Section) -> Network:
    """Llama Nemotron Super and Ultra."""
    width = c.integer("hidden_size")
    layers = Tally()
    for block in c.sections("block_configs"):
        layers += _attention(c, block.section("attention")) + _feed_forward(c, block.section("ffn"))
    return decoder(c, layers, width)


def _attention(c: Section, block: Section) -> Tally:
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    if block.flag("replace_with_linear"):
        return linear(width, width) + norm(width)
    if block.flag("no_op"):
        return Tally()
    kv_heads = heads // block.integer("n_heads_in_group")
    return attention(width, heads, kv_heads, c.stated_integer("head_dim")) + norm(width)


def _feed_forward(c: Section, block: Section) -> Tally:
    width = c.integer("hidden_size")
    if block.flag("replace_with_linear"):
        return linear(width, width) + norm(width)
    if block.flag("no_op"):
        return Tally()
    inner = int(2 * block.number("ffn_mult") * width / 3)
    return gated(width, -(-inner // _MULTIPLE) * _MULTIPLE) + norm(width)


FAMILIES = (
    Family(
        ("nemotron-nas",),
        nemotron_nas,
        classes=("DeciLMForCausalLM",),
        ignores=frozenset(("unshifted_sink", "use_prefill_window_in_sink_attention", "sparsify", "num_hidden_layers")),
        assumes={"attention_bias": (False,), "mlp_bias": (False,)},
    ),
)

"""DeepSeek V4: compressed and sparse attention over one shared key, grouped output, hyper-connections."""

from services.parser.families.deepseek import mixture
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, linear, norm

# Layers of this compression choose what they attend to with an indexer; the others attend to everything they compress.
_INDEXED_RATIO = 4


def deepseek_v4(c: Section) -> Network:
    """DeepSeek V4 Flash and Pro."""
    width, depth = c.integer("hidden_size"), c.integer("num_hidden_layers")
    ratios = c.integers("compress_ratios", default=(0,) * depth)[:depth]
    streams = c.integer("hc_mult", default=4)
    # Three mixing matrices of the streams of the residual, computed from all of them, before each block.
    mixes = streams * (streams + 2)
    connection = Tally(mixes * streams * width + mixes + 3)
    layer = _attention(c) + mixture(c) + 2 * norm(width) + 2 * connection
    layers = depth * layer
    for ratio in ratios:
        layers += _compressor(c, ratio)
    return decoder(c, layers + streams * streams * width + streams + 1, width)


def _attention(c: Section) -> Tally:
    width, heads, head = c.integer("hidden_size"), c.integer("num_attention_heads"), c.integer("head_dim")
    query_rank, groups, rank = c.integer("q_lora_rank"), c.integer("o_groups"), c.integer("o_lora_rank")
    query = linear(width, query_rank) + norm(query_rank) + linear(query_rank, heads * head)
    output = linear(heads * head // groups, groups * rank) + linear(groups * rank, width)
    sinks = heads
    return query + linear(width, head) + norm(head) + output + sinks


def _compressor(c: Section, ratio: int) -> Tally:
    if ratio == 0:
        return Tally()
    width, head = c.integer("hidden_size"), c.integer("head_dim")
    if ratio != _INDEXED_RATIO:
        return _pooling(width, head, ratio, overlap=1) + Tally(cached=head // ratio)
    index_width, index_heads = c.integer("index_head_dim"), c.integer("index_n_heads")
    indexer = (
        _pooling(width, index_width, ratio, overlap=2)
        + linear(c.integer("q_lora_rank"), index_heads * index_width)
        + linear(width, index_heads)
    )
    return _pooling(width, head, ratio, overlap=2) + indexer + Tally(cached=(head + index_width) // ratio)


def _pooling(width: int, head: int, ratio: int, overlap: int) -> Tally:
    return 2 * linear(width, overlap * head) + ratio * overlap * head + norm(head)


FAMILIES = (
    Family(
        ("deepseek_v4", "deepseek_ref"),
        deepseek_v4,
        architectures=("DeepseekV4ForCausalLM",),
        ignores=frozenset(
            (
                "num_key_value_heads",
                "qk_rope_head_dim",
                "expert_dtype",
                "num_hash_layers",
                "num_nextn_predict_layers",
                "layer_types",
                "mlp_layer_types",
                "compress_rates",
            )
        ),
        assumes={"attention_bias": (False,)},
    ),
)

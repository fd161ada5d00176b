"""DeepSeek V2 to V3.2 and their heirs: latent attention, routed and shared experts, a sparse-attention indexer."""

from services.parser.layers import routed
from services.parser.network import DECODER, Family, Network, classes, decoder
from services.parser.section import Section
from services.parser.tally import Tally, gated, linear, norm


def deepseek(c: Section) -> Network:
    """DeepSeek V2, V3, R1 and Kimi K2."""
    return _deepseek(c, indexers=0)


def deepseek_sparse(c: Section) -> Network:
    """DeepSeek V3.2 and GLM-5: some or all layers choose the tokens that they attend to."""
    depth = c.integer("num_hidden_layers")
    types = c.items("indexer_types")[:depth]
    return _deepseek(c, indexers=types.count("full") if types else depth)


def minicpm3(c: Section) -> Network:
    """MiniCPM 3: latent attention with dense feed-forward blocks and a tied head."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    value_width = c.stated_integer("v_head_dim") or width // heads
    block = gated(width, c.integer("intermediate_size"))
    layer = latent_attention(c.merged({"v_head_dim": value_width})) + block + 2 * norm(width)
    return decoder(c, c.integer("num_hidden_layers") * layer, width, tied=True)


def latent_attention(c: Section) -> Tally:
    """Queries, keys and values through low-rank latents; only the latent and the rotary key are cached."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    bias = c.flag("attention_bias")
    rotary, plain = c.integer("qk_rope_head_dim", default=64), c.integer("qk_nope_head_dim", default=128)
    value_width, rank = c.integer("v_head_dim", default=128), c.integer("kv_lora_rank", default=512)
    query_rank = c.stated_integer("q_lora_rank")
    queries = heads * (plain + rotary)
    if query_rank:
        query = linear(width, query_rank, bias) + norm(query_rank) + linear(query_rank, queries)
    else:
        query = linear(width, queries)
    latent = linear(width, rank + rotary, bias) + norm(rank) + linear(rank, heads * (plain + value_width))
    return query + latent + linear(heads * value_width, width, bias) + Tally(cached=rank + rotary)


def indexer(c: Section) -> Tally:
    """The lightning indexer of sparse attention; its single key per token is cached too."""
    width, heads = c.integer("hidden_size"), c.integer("index_n_heads", default=64)
    key = c.integer("index_head_dim", default=128)
    query = linear(c.integer("q_lora_rank"), heads * key)
    return query + linear(width, key) + norm(key, bias=True) + linear(width, heads) + Tally(cached=key)


def mixture(c: Section) -> Tally:
    """Routed and shared experts with their router."""
    inner = c.integer("moe_intermediate_size")
    return routed(
        c.integer("hidden_size"),
        c.integer("n_routed_experts"),
        c.integer("num_experts_per_tok", "num_experts_per_token", default=c.integer("n_routed_experts")),
        inner,
        shared_inner=inner * (c.stated_integer("n_shared_experts") or 0),
    )


def prediction_layers(c: Section, layer: Tally) -> int:
    """Parameters of MTP layers: two normed states joined, a layer, and copies of embeddings and head."""
    width = c.integer("hidden_size")
    joined = linear(2 * width, width) + 3 * norm(width) + 2 * c.integer("vocab_size") * norm(width)
    return (c.stated_integer("num_nextn_predict_layers") or 0) * (layer + joined).parameters


def _deepseek(c: Section, indexers: int) -> Network:
    width, depth = c.integer("hidden_size"), c.integer("num_hidden_layers")
    attending = latent_attention(c) + 2 * norm(width)
    types = c.items("mlp_layer_types")[:depth]
    dense = types.count("dense") if types else min(c.integer("first_k_dense_replace", default=0), depth)
    if c.stated_integer("n_routed_experts") is None:
        dense = depth
    sparse = mixture(c) if dense < depth else Tally()
    layers = (
        depth * attending
        + dense * gated(width, c.integer("intermediate_size"))
        + (depth - dense) * sparse
        + (indexers * indexer(c) if indexers else Tally())
    )
    extra = attending + sparse + (indexer(c) if indexers else Tally())
    return decoder(c, layers, width, prediction=prediction_layers(c, extra))


FAMILIES = (
    Family(
        ("deepseek_v2", "deepseek_v3", "kimi_k2", "deepseek", "glm4_moe_lite", "mistral4", "youtu"),
        deepseek,
        classes=classes(DECODER, "DeepseekV2", "DeepseekV3", "Deepseek", "Glm4MoeLite", "Mistral4", "Youtu"),
        ignores=frozenset(("num_key_value_heads", "head_dim")),
        assumes={"moe_layer_freq": (1,), "mlp_bias": (False,)},
    ),
    Family(
        ("deepseek_v32", "glm_moe_dsa"),
        deepseek_sparse,
        classes=("DeepseekV32Model", "DeepseekV32ForCausalLM", "GlmMoeDsaModel", "GlmMoeDsaForCausalLM"),
        ignores=frozenset(("num_key_value_heads", "head_dim", "num_experts", "first_k_dense_replace", "layer_types")),
        assumes={"moe_layer_freq": (1,), "mlp_bias": (False,)},
    ),
    Family(
        ("minicpm3",),
        minicpm3,
        architectures=("MiniCPM3ForCausalLM",),
        classes=("MiniCPM3Model", "MiniCPM3ForSequenceClassification"),
        ignores=frozenset(("num_key_value_heads", "head_dim")),
        assumes={"mlp_bias": (False,)},
    ),
)

"""Draft models for speculative decoding: a few layers that read the states of the model they draft for."""

from services.parser.layers import gated_layer, grouped_attention
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import gated, linear, norm

# EAGLE-3 joins states from three depths of the target model.
_DEPTHS = 3
_WHY = "a draft model may store the target's embeddings or leave them out"


def eagle3(c: Section) -> Network:
    """EAGLE-3: one layer whose queries, keys and values see the token and the state side by side."""
    width = c.integer("hidden_size")
    target = c.integer("target_hidden_size", default=width)
    heads, kv_heads = c.integer("num_attention_heads"), c.integer("num_key_value_heads")
    head = c.integer("head_dim", default=width // heads)
    wider = linear(width, (heads + 2 * kv_heads) * head)
    layer = grouped_attention(c) + wider + gated(width, c.integer("intermediate_size")) + 3 * norm(width)
    draft = c.integer("draft_vocab_size", default=c.integer("vocab_size"))
    parts = {
        "states": linear(_DEPTHS * target, width),
        "layers": c.integer("num_hidden_layers", default=1) * layer + norm(width),
        "head": linear(width, draft),
    }
    return Network(parts, exact=False, why=_WHY)


def dflash(c: Section) -> Network:
    """DFlash: layers of the target's kind over states of several depths; embeddings and head are the target's."""
    width = c.integer("hidden_size")
    depths = len(c.section("dflash_config").items("target_layer_ids")) or c.integer("num_hidden_layers")
    layers = c.integer("num_hidden_layers") * gated_layer(c, head_norm=c.model_type == "qwen3") + 2 * norm(width)
    return Network({"states": linear(depths * width, width), "layers": layers}, exact=False, why=_WHY)


FAMILIES = (
    Family((), eagle3, ("LlamaForCausalLMEagle3", "Eagle3ForCausalLM", "PEagleDraftModel"), ("DRAFT_MODEL",)),
    Family((), dflash, ("DFlashDraftModel",), ("DRAFT_MODEL",)),
)

"""Estimates the size of a network that no page describes, with a range that says how little is known."""

from services.parser.context import text_sections
from services.parser.section import Section, Undescribed
from services.parser.tally import Tally, attention, embedding, experts, gated, linear, norm, plain

# Weights beside the language model, such as a vision tower and its projector, are rarely more than this.
_LARGEST_TOWER = 6 * 10**9


class Estimate:
    """A likely network and the smallest and largest that the same configuration could mean."""

    def __init__(self, likely: Tally, smallest: int, largest: int) -> None:
        self.likely = likely
        self.smallest = smallest
        self.largest = largest


def estimate(c: Section) -> Estimate:
    """An estimate for a decoder or encoder. Raises Undescribed when not even its width and depth are stated."""
    section = next((s for s in text_sections(c) if s.stated_integer("hidden_size", "n_embd", "d_model")), c)
    width = section.integer("hidden_size", "n_embd", "d_model", "dim")
    depth = section.integer("num_hidden_layers", "n_layer", "num_layers", "n_layers")
    heads = section.integer("num_attention_heads", "n_head", "n_heads", "num_heads", default=max(width // 128, 1)) or 1
    inner = section.integer("intermediate_size", "ffn_hidden_size", "n_inner", "d_ff", "ffn_dim", default=4 * width)
    kv_heads = section.stated_integer("num_key_value_heads", "num_kv_heads") or heads
    head_width = section.stated_integer("head_dim") or max(width // heads, 1)
    entries = section.integer("vocab_size", "padded_vocab_size", default=0)
    attending = attention(width, heads, kv_heads, head_width) + 2 * norm(width)

    count = section.integer("num_local_experts", "num_experts", "n_routed_experts", default=0)
    chosen = section.integer("num_experts_per_tok", "num_experts_per_token", "moe_topk", default=1)
    expert = section.integer("moe_intermediate_size", "expert_intermediate_size", default=inner)
    table, head = embedding(entries, width), linear(width, entries)

    def network(block: Tally, ends: Tally) -> Tally:
        if count > 1:
            block = experts(count, chosen, block) + linear(width, count)
        return depth * (attending + block) + ends

    tied = section.flag("tie_word_embeddings", default=c.flag("tie_word_embeddings"))
    used = expert if count > 1 else inner
    likely = network(gated(width, used), table if tied else table + head)
    smallest = network(plain(width, used, bias=False), table).parameters
    largest = network(gated(width, max(inner, expert)), table + head).parameters
    if section is not c:
        largest += _LARGEST_TOWER
    if likely.parameters <= 0:
        raise Undescribed("the configuration states no sizes")
    return Estimate(likely, smallest * 9 // 10, largest * 23 // 20)

"""Llama, and the decoders that differ from it in nothing that has parameters."""

from services.parser.layers import gated_layer
from services.parser.network import DECODER, Family, Network, classes, decoder
from services.parser.section import Section


def llama(c: Section) -> Network:
    """Llama 1 to 3, Mistral, EXAONE 3, Granite."""
    return decoder(c, c.integer("num_hidden_layers", "num_layers") * gated_layer(c), c.integer("hidden_size"))


def untied(c: Section) -> Network:
    """Baichuan 2, XVERSE, InternLM 2: a head of their own, whatever the configuration says."""
    return llama(c.merged({"tie_word_embeddings": False}))


def tied_by_default(c: Section) -> Network:
    """MiniCPM and SmolLM3: a tied head unless the configuration says otherwise."""
    return llama(c.merged({"tie_word_embeddings": c.flag("tie_word_embeddings", default=True)}))


def shared_embedding(c: Section) -> Network:
    """MobileLLM: share_embedding is its word for a tied head; layers that it repeats are stored once."""
    return llama(c.merged({"tie_word_embeddings": c.flag("share_embedding", "tie_word_embeddings")}))


_LLAMA = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
_MISTRAL = {**_LLAMA, "intermediate_size": 14336, "num_key_value_heads": 8}

FAMILIES = (
    Family(
        ("mistral", "ministral", "ministral3", "cwm"),
        llama,
        defaults=_MISTRAL,
        classes=classes(DECODER, "Mistral", "Ministral", "Ministral3", "Cwm"),
    ),
    Family(
        ("exaone", "granite"), llama, classes=("ExaoneModel", "ExaoneForCausalLM", "GraniteModel", "GraniteForCausalLM")
    ),
    Family(
        ("llama",),
        shared_embedding,
        defaults=_LLAMA,
        classes=(*classes(DECODER, "Llama"), "LLaMAForCausalLM", "MobileLLMForCausalLM"),
        ignores=frozenset(("internal_version",)),
    ),
    Family(
        ("baichuan", "xverse", "internlm2"),
        untied,
        classes=(
            "BaichuanForCausalLM",
            "BaiChuanForCausalLM",
            "XverseForCausalLM",
            "InternLM2Model",
            "InternLM2ForCausalLM",
            "InternLM2ForRewardModel",
        ),
        ignores=frozenset(("_from_model_config",)),
        assumes={"bias": (False,)},
    ),
    Family(
        ("minicpm", "smollm3"),
        tied_by_default,
        classes=(*classes(DECODER, "SmolLM3"), "MiniCPMModel", "MiniCPMForCausalLM"),
        ignores=frozenset(("mup_denominator",)),
    ),
)

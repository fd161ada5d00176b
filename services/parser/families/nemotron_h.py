"""Nemotron-H: one letter per layer says what it is, and each layer has one norm and one block."""

from collections import Counter

from services.parser.layers import grouped_attention
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.state_space import mamba2
from services.parser.tally import Tally, experts, linear, norm, plain

_LETTERS = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}


def nemotron_h(c: Section) -> Network:
    """Nemotron-H, Nemotron Nano 2 and Nemotron 3."""
    width = c.integer("hidden_size")
    layers = _layers(c, _pattern(c, "hybrid_override_pattern"), width)
    count = c.stated_integer("num_nextn_predict_layers") or 0
    predicting = _layers(c, c.text("mtp_hybrid_override_pattern"), width)
    joined = linear(2 * width, width) + 3 * norm(width)
    return decoder(c, layers, width, prediction=count * (predicting + joined).parameters)


def _layers(c: Section, pattern: str, width: int) -> Tally:
    """The layers that a pattern names. There are few kinds, each of which is looked up once."""
    return sum((times * (_block(c, letter) + norm(width)) for letter, times in Counter(pattern).items()), Tally())


def _pattern(c: Section, name: str) -> str:
    pattern = c.text(name)
    if not pattern:
        pattern = "".join(_LETTERS.get(str(kind), "?") for kind in c.items("layers_block_type"))
    return pattern[: c.integer("num_hidden_layers", default=len(pattern))]


def _block(c: Section, letter: str) -> Tally:
    width, bias = c.integer("hidden_size"), c.flag("mlp_bias")
    if letter == "M":
        return mamba2(
            width,
            c.integer("mamba_num_heads", default=128),
            c.integer("mamba_head_dim", default=64),
            c.integer("ssm_state_size", default=128),
            c.integer("n_groups", default=8),
            c.integer("conv_kernel", default=4),
            bias=c.flag("use_bias"),
            kernel_bias=c.flag("use_conv_bias", default=True),
        )
    if letter == "*":
        head = c.integer("head_dim", "attention_head_dim", default=128)
        return grouped_attention(c.merged({"head_dim": head}))
    if letter == "E":
        return _mixture(c)
    return plain(width, c.integer("intermediate_size"), bias)


def _mixture(c: Section) -> Tally:
    """Experts work in a narrower space in some models; the shared one never does."""
    width, bias = c.integer("hidden_size"), c.flag("mlp_bias")
    latent = c.stated_integer("moe_latent_size") or width
    count = c.integer("n_routed_experts")
    expert = plain(latent, c.integer("moe_intermediate_size"), bias)
    mixture = experts(count, c.integer("num_experts_per_tok"), expert) + linear(width, count)
    shared_inner = c.integer("moe_shared_expert_intermediate_size", default=0)
    shared = (c.stated_integer("n_shared_experts") or 0) and plain(width, shared_inner, bias)
    return mixture + shared + (linear(width, latent, bias) + linear(latent, width, bias) if latent != width else 0)


FAMILIES = (
    Family(
        ("nemotron_h",),
        nemotron_h,
        classes=("NemotronHModel", "NemotronHForCausalLM"),
        ignores=frozenset(
            (
                "expand",
                "mtp_layers_block_type",
                "time_step_rank",
                "intermediate_size",
                "attention_head_dim",
            )
        ),
        assumes={"mamba_proj_bias": (False,)},
    ),
)

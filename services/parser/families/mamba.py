"""Mamba, Falcon Mamba and Mamba 2: decoders of state-space layers alone."""

from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.state_space import mamba as mamba_mixer
from services.parser.state_space import mamba2 as mamba2_mixer
from services.parser.tally import norm


def mamba(c: Section) -> Network:
    """Mamba and Falcon Mamba."""
    width = c.integer("hidden_size", "d_model")
    inner = c.stated_integer("intermediate_size", "d_inner") or c.integer("expand", default=2) * width
    layer = mamba_mixer(
        width,
        inner,
        c.integer("state_size", default=16),
        c.stated_integer("time_step_rank") or -(-width // 16),
        c.integer("conv_kernel", default=4),
        bias=c.flag("use_bias"),
        kernel_bias=c.flag("use_conv_bias", default=True),
    ) + norm(width)
    return decoder(c, c.integer("num_hidden_layers", "n_layer", default=32) * layer, width, tied=True)


def mamba2(c: Section) -> Network:
    """Mamba 2 and Codestral Mamba."""
    width = c.integer("hidden_size")
    layer = mamba2_mixer(
        width,
        c.integer("num_heads", default=128),
        c.integer("head_dim", default=64),
        c.integer("state_size", default=128),
        c.integer("n_groups", default=8),
        c.integer("conv_kernel", default=4),
        bias=c.flag("use_bias"),
        kernel_bias=c.flag("use_conv_bias", default=True),
    ) + norm(width)
    return decoder(c, c.integer("num_hidden_layers", default=64) * layer, width)


FAMILIES = (
    Family(
        ("mamba", "falcon_mamba"),
        mamba,
        classes=("MambaModel", "MambaForCausalLM", "FalconMambaModel", "FalconMambaForCausalLM"),
        ignores=frozenset(("expand", "use_falcon_mamba")),
    ),
    Family(
        ("mamba2",),
        mamba2,
        classes=("Mamba2Model", "Mamba2ForCausalLM"),
        ignores=frozenset(("expand", "time_step_rank")),
    ),
)

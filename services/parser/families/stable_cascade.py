"""Stable Cascade: a U-Net of named blocks over strongly compressed latents, and the Paella autoencoder."""

from services.parser.network import Family, Network
from services.parser.section import Section, Undescribed
from services.parser.tally import Tally, attention, convolution, embedding, linear, norm, uncached

# Scales and shifts of a Paella block.
_GAMMAS = 6


def cascade(c: Section) -> Network:
    """The prior and the decoder of Stable Cascade."""
    channels = c.integers("block_out_channels")
    kinds = [level if isinstance(level, list) else [] for level in c.items("block_types_per_layer")]
    down = c.integers("down_num_layers_per_block")
    up = c.integers("up_num_layers_per_block")
    down_repeats = c.integers("down_blocks_repeat_mappers", default=(1,) * len(channels))
    up_repeats = c.integers("up_blocks_repeat_mappers", default=(1,) * len(channels))
    if not len(channels) == len(kinds) == len(down) == len(up) == len(down_repeats) == len(up_repeats):
        raise Undescribed("the lists of levels have different lengths")
    downwards, upwards = Tally(), Tally()
    for index, width in enumerate(channels):
        downwards += down[index] * _blocks(c, kinds[index], width) + (down_repeats[index] - 1) * convolution(
            width, width, 1
        )
        below = len(channels) - 1 - index
        upwards += up[below] * _blocks(c, kinds[index], width) + (up_repeats[below] - 1) * convolution(width, width, 1)
        if index < len(channels) - 1:
            # The first block of a level on the way up takes a skip of the same width.
            upwards += linear(width, 4 * width)
            upwards += convolution(channels[index + 1], width, 2, 2)
            downwards += convolution(width, channels[index + 1], 2, 2)
    return Network(
        {"conditions": _conditions(c, channels[0]), "down": downwards, "up": upwards, "ends": _ends(c, channels[0])}
    )


def paella(c: Section) -> Network:
    """The vector-quantizing autoencoder of Würstchen."""
    levels, width = c.integer("levels", default=2), c.integer("embed_dim", default=384)
    latent, factor = c.integer("latent_channels", default=4), c.integer("up_down_scale_factor", default=2)
    widths = [width // 2 ** (levels - 1 - index) for index in range(levels)]
    sides = Tally()
    for index, current in enumerate(widths):
        bottleneck = c.integer("bottleneck_blocks", default=12) if index == levels - 1 else 1
        sides += (1 + bottleneck) * _mixing(current)
        if index:
            # Down by a convolution, up by a transposed one.
            between = widths[index - 1]
            sides += convolution(between, current, 4, 4) + convolution(current, between, 4, 4)
    latents = convolution(width, latent, 1, bias=False) + norm(latent, bias=True) + convolution(latent, width, 1)
    latents += embedding(c.integer("num_vq_embeddings", default=8192), latent)
    inside = c.integer("in_channels", default=3) * factor**2
    outside = c.integer("out_channels", default=3) * factor**2
    return Network(
        {"ends": convolution(inside, widths[0], 1) + convolution(widths[0], outside, 1), "blocks": sides + latents}
    )


def _blocks(c: Section, kinds: list[object], width: int) -> Tally:
    total = Tally()
    conditioning = len(c.items("timestep_conditioning_type"))
    for kind in kinds:
        if kind == "SDCascadeResBlock":
            total += convolution(width, width, 3, 3, groups=width) + linear(width, 4 * width, bias=True)
            total += norm(4 * width, bias=True) + linear(4 * width, width, bias=True)
        elif kind == "SDCascadeTimestepBlock":
            inputs = c.integer("timestep_ratio_embedding_dim", default=64)
            total += (1 + conditioning) * linear(inputs, 2 * width, bias=True)
        elif kind == "SDCascadeAttnBlock":
            mapped = linear(c.integer("conditioning_dim", default=2048), width, bias=True)
            total += mapped + uncached(attention(width, 1, bias=True))
        else:
            raise Undescribed(f"no description of block {kind!r}"[:100])
    return total


def _conditions(c: Section, first: int) -> Tally:
    width, length = c.integer("conditioning_dim", default=2048), c.integer("clip_seq", default=4)
    total = Tally()
    for name in ("effnet_in_channels", "pixel_mapper_in_channels"):
        inputs = c.stated_integer(name)
        total += convolution(inputs, 4 * first, 1) + convolution(4 * first, first, 1) if inputs else 0
    for name, places in (
        ("clip_text_pooled_in_channels", length),
        ("clip_text_in_channels", 1),
        ("clip_image_in_channels", length),
    ):
        inputs = c.stated_integer(name)
        total += linear(inputs, places * width, bias=True) if inputs else 0
    return total


def _ends(c: Section, first: int) -> Tally:
    pixels = c.integer("patch_size", default=1) ** 2
    inputs, outputs = c.integer("in_channels", default=16), c.integer("out_channels", default=16)
    return convolution(inputs * pixels, first, 1) + convolution(first, outputs * pixels, 1)


def _mixing(width: int) -> Tally:
    block = convolution(width, width, 3, 3, groups=width) + linear(width, 4 * width, bias=True)
    return block + linear(4 * width, width, bias=True) + _GAMMAS


FAMILIES = (
    Family(
        (),
        cascade,
        ("StableCascadeUNet", "StableCascadeUnet"),
        ignores=frozenset(("num_attention_heads",)),
        assumes={"kernel_size": (3,), "self_attn": (True,)},
    ),
    Family((), paella, ("PaellaVQModel",), ignores=frozenset(("scale_factor",))),
)

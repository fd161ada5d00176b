"""The U-Nets of Stable Diffusion: convolutions with time, cross-attention to text, and skips; also for video."""

from dataclasses import dataclass

from services.parser.families.autoencoder_kl import resnet
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, embedding, linear, norm, uncached

_ATTENDING = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D", "CrossAttnDownBlock3D", "CrossAttnUpBlock3D")
_CHANNELS = (320, 640, 1280, 1280)


@dataclass(frozen=True)
class _Level:
    """One resolution: its channels, resnets, transformer blocks per resnet, and what attention sees."""

    channels: int
    depth: int
    blocks: int
    attends: bool
    crossed: int
    crossing_only: bool
    video: bool


def unet(c: Section) -> Network:
    """UNet2DConditionModel and UNet3DConditionModel."""
    video = "3D" in c.architecture
    channels = c.integers("block_out_channels", default=_CHANNELS)
    first, time = channels[0], 4 * channels[0]
    levels = _levels(c, channels, video)
    parts = {
        "conditions": _conditions(c, first, time),
        "down": _down(levels, first, time),
        "middle": _middle(levels[-1], time),
        "up": _up(c, levels, time),
        "ends": convolution(c.integer("in_channels", default=4), first, 3, 3)
        + norm(first, bias=True)
        + convolution(first, c.integer("out_channels", default=4), 3, 3),
    }
    if video:
        parts["transformer_in"] = _temporal(first, 8 * c.integer("attention_head_dim", default=64))
    return Network(parts)


def _levels(c: Section, channels: tuple[int, ...], video: bool) -> list[_Level]:
    count = len(channels)
    kinds = c.items("down_block_types") or ["CrossAttnDownBlock2D"] * (count - 1) + ["DownBlock2D"]
    blocks = _per_level(c, "transformer_layers_per_block", 1, count)
    depths = _per_level(c, "layers_per_block", 2, count)
    only = c.items("only_cross_attention") or [c.flag("only_cross_attention")] * count
    crossed = c.integer("cross_attention_dim", default=1024 if video else 1280)
    return [
        _Level(
            channels[index],
            depths[index],
            blocks[index],
            kinds[index] in _ATTENDING,
            crossed,
            bool(only[index]),
            video,
        )
        for index in range(count)
    ]


def _per_level(c: Section, name: str, default: int, count: int) -> tuple[int, ...]:
    if c.items(name):
        return c.integers(name)
    return (c.integer(name, default=default),) * count


def _conditions(c: Section, first: int, time: int) -> Tally:
    total = linear(first, time, bias=True) + linear(time, time, bias=True)
    if c.text("addition_embed_type") == "text_time":
        inputs = c.integer("projection_class_embeddings_input_dim")
        total += linear(inputs, time, bias=True) + linear(time, time, bias=True)
    if c.text("class_embed_type") == "projection":
        inputs = c.integer("projection_class_embeddings_input_dim")
        total += linear(inputs, time, bias=True) + linear(time, time, bias=True)
    elif c.stated_integer("num_class_embeds"):
        total += embedding(c.integer("num_class_embeds"), time)
    if c.stated_integer("encoder_hid_dim"):
        total += linear(c.integer("encoder_hid_dim"), c.integer("cross_attention_dim", default=1280), bias=True)
    return total


def _down(levels: list[_Level], first: int, time: int) -> Tally:
    total, inputs = Tally(), first
    for index, level in enumerate(levels):
        outputs = level.channels
        for depth in range(level.depth):
            total += _resnet(inputs if depth == 0 else outputs, outputs, time, level.video)
            total += _transformer(level, level.crossing_only) if level.attends else 0
        total += convolution(outputs, outputs, 3, 3) if index < len(levels) - 1 else 0
        inputs = outputs
    return total


def _middle(level: _Level, time: int) -> Tally:
    return 2 * _resnet(level.channels, level.channels, time, level.video) + _transformer(level, crossing_only=False)


def _up(c: Section, levels: list[_Level], time: int) -> Tally:
    kinds = c.items("up_block_types")
    total, previous = Tally(), levels[-1].channels
    reverse = levels[::-1]
    for index, level in enumerate(reverse):
        outputs = level.channels
        skipped = reverse[min(index + 1, len(reverse) - 1)].channels
        attends = kinds[index] in _ATTENDING if index < len(kinds) else level.attends
        for depth in range(level.depth + 1):
            skip = skipped if depth == level.depth else outputs
            total += _resnet((previous if depth == 0 else outputs) + skip, outputs, time, level.video)
            total += _transformer(level, level.crossing_only) if attends else 0
        total += convolution(outputs, outputs, 3, 3) if index < len(reverse) - 1 else 0
        previous = outputs
    return total


def _resnet(inputs: int, outputs: int, time: int, video: bool) -> Tally:
    block = resnet(inputs, outputs, time)
    # Four normed convolutions over time follow every resnet of a video model.
    return block + (4 * (norm(outputs, bias=True) + convolution(outputs, outputs, 3)) if video else 0)


def _transformer(level: _Level, crossing_only: bool) -> Tally:
    width = level.channels
    block = _block(width, level.crossed, level.crossed if crossing_only else None)
    # The projections around the blocks are linear or 1×1 convolutions, which are as large.
    total = norm(width, bias=True) + 2 * linear(width, width, bias=True) + level.blocks * block
    return total + (_temporal(width, width) if level.video else 0)


def _temporal(width: int, inner: int) -> Tally:
    """Attention over time only, twice per block."""
    return (
        norm(width, bias=True)
        + linear(width, inner, bias=True)
        + linear(inner, width, bias=True)
        + _block(inner, inner, None)
    )


def _block(width: int, crossed: int, first: int | None) -> Tally:
    attending = attention(width, 1, output_bias=True, inputs=first) + attention(
        width, 1, output_bias=True, inputs=crossed
    )
    # GEGLU projects to value and gate at once.
    feed_forward = linear(width, 8 * width, bias=True) + linear(4 * width, width, bias=True)
    return uncached(attending) + feed_forward + 3 * norm(width, bias=True)


FAMILIES = (
    Family(
        (),
        unet,
        ("UNet2DConditionModel", "UNet3DConditionModel"),
        ignores=frozenset(
            (
                "addition_embed_type_num_heads",
                "addition_time_embed_dim",
                "attention_head_dim",
                "center_input_sample",
                "mid_block_scale_factor",
                "resnet_out_scale_factor",
                "resnet_skip_time_act",
                "upcast_attention",
                "use_linear_projection",
                "act_fn",
                "num_attention_heads",
            )
        ),
        assumes={
            "class_embeddings_concat": (False,),
            "conv_in_kernel": (3,),
            "conv_out_kernel": (3,),
            "dual_cross_attention": (False,),
            "mid_block_type": ("UNetMidBlock2DCrossAttn",),
            "resnet_time_scale_shift": ("default",),
            "time_embedding_type": ("positional",),
            "attention_type": ("default",),
            "encoder_hid_dim_type": ("text_proj",),
        },
    ),
)

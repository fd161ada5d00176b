"""The autoencoder of latent diffusion: convolutions down to latents and up again."""

from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, norm, uncached


def autoencoder_kl(c: Section) -> Network:
    """AutoencoderKL of Stable Diffusion 1 to 3 and Flux."""
    channels = c.integers("block_out_channels", default=(64,))
    latent, depth = c.integer("latent_channels", default=4), c.integer("layers_per_block", default=1)
    first, last = channels[0], channels[-1]
    middle = 2 * resnet(last, last)
    if c.flag("mid_block_add_attention", default=True):
        middle += uncached(attention(last, 1, bias=True)) + norm(last, bias=True)
    encoder = convolution(c.integer("in_channels", default=3), first, 3, 3) + middle
    encoder += _stages(channels, depth) + norm(last, bias=True) + convolution(last, 2 * latent, 3, 3)
    decoder = convolution(latent, last, 3, 3) + middle + _stages(channels[::-1], depth + 1)
    decoder += norm(first, bias=True) + convolution(first, c.integer("out_channels", default=3), 3, 3)
    quantizers = Tally()
    quantizers += convolution(2 * latent, 2 * latent, 1) if c.flag("use_quant_conv", default=True) else 0
    quantizers += convolution(latent, latent, 1) if c.flag("use_post_quant_conv", default=True) else 0
    return Network({"encoder": encoder, "decoder": decoder, "quantizers": quantizers})


def resnet(inputs: int, outputs: int, time: int = 0) -> Tally:
    """Two normed convolutions with a shortcut, and a projection of the time embedding where there is one."""
    block = norm(inputs, bias=True) + convolution(inputs, outputs, 3, 3)
    block += norm(outputs, bias=True) + convolution(outputs, outputs, 3, 3)
    block += convolution(time, outputs, 1) if time else 0
    return block + (convolution(inputs, outputs, 1) if inputs != outputs else 0)


def _stages(channels: tuple[int, ...], depth: int) -> Tally:
    total, inputs = Tally(), channels[0]
    for index, outputs in enumerate(channels):
        total += resnet(inputs, outputs) + (depth - 1) * resnet(outputs, outputs)
        total += convolution(outputs, outputs, 3, 3) if index < len(channels) - 1 else 0
        inputs = outputs
    return total


FAMILIES = (
    Family(
        (),
        autoencoder_kl,
        ("AutoencoderKL",),
        ignores=frozenset(("down_block_types", "up_block_types", "block_out_types")),
    ),
)

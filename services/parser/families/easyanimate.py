"""EasyAnimate: a diffusion transformer for video whose first blocks keep text and video apart, and its autoencoder."""

from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, linear, norm, plain, uncached


def transformer(c: Section) -> Network:
    """EasyAnimate 5.1."""
    heads, head = c.integer("num_attention_heads", default=48), c.integer("attention_head_dim", default=64)
    width, time = heads * head, c.integer("time_embed_dim", default=512)
    depth, apart = c.integer("num_layers", default=48), c.integer("mmdit_layers", default=48)
    patch, text = c.integer("patch_size", default=2), c.integer("text_embed_dim", default=3584)
    stream = (
        uncached(attention(width, heads, heads, head, bias=True)) + 2 * norm(head, bias=True) + plain(width, 4 * width)
    )
    # One pair of modulated norms serves both streams.
    norms = 2 * (linear(time, 6 * width, bias=True) + norm(width, bias=True))
    conditions = linear(width, time, bias=True) + linear(time, time, bias=True)
    texts = linear(text, width, bias=True) + (norm(text) if c.flag("add_norm_text_encoder") else 0)
    if c.stated_integer("text_embed_dim_t5"):
        texts = 2 * texts
    ends = convolution(c.integer("in_channels", default=16), width, patch, patch) + norm(width, bias=True)
    ends += linear(time, 2 * width, bias=True) + norm(width, bias=True)
    ends += linear(width, patch**2 * c.integer("out_channels", default=16), bias=True)
    blocks = depth * (stream + norms) + min(apart, depth) * stream
    return Network({"conditions": conditions, "text": texts, "blocks": blocks, "ends": ends})


def autoencoder(c: Section) -> Network:
    """The MagViT autoencoder: AutoencoderKL with kernels over time."""
    channels = c.integers("block_out_channels", default=(128, 256, 512, 512))
    latent, depth = c.integer("latent_channels", default=4), c.integer("layers_per_block", default=2)
    last = channels[-1]
    middle = 2 * _resnet(last, last)
    encoder = _cube(c.integer("in_channels", default=3), channels[0]) + _stages(channels, depth) + middle
    encoder += norm(last, bias=True) + _cube(last, 2 * latent)
    decoder = _cube(latent, last) + middle + _stages(channels[::-1], depth + 1)
    decoder += norm(channels[0], bias=True) + _cube(channels[0], c.integer("out_channels", default=3))
    quantizers = convolution(2 * latent, 2 * latent, 1) + convolution(latent, latent, 1)
    return Network({"encoder": encoder, "decoder": decoder, "quantizers": quantizers})


def _stages(channels: tuple[int, ...], depth: int) -> Tally:
    total, inputs = Tally(), channels[0]
    for index, outputs in enumerate(channels):
        total += _resnet(inputs, outputs) + (depth - 1) * _resnet(outputs, outputs)
        total += _cube(outputs, outputs) if index < len(channels) - 1 else 0
        inputs = outputs
    return total


def _resnet(inputs: int, outputs: int) -> Tally:
    block = norm(inputs, bias=True) + _cube(inputs, outputs) + norm(outputs, bias=True) + _cube(outputs, outputs)
    return block + (convolution(inputs, outputs, 1) if inputs != outputs else 0)


def _cube(inputs: int, outputs: int) -> Tally:
    return convolution(inputs, outputs, 3, 3, 3)


FAMILIES = (
    Family(
        (),
        transformer,
        ("EasyAnimateTransformer3DModel",),
        ignores=frozenset(
            (
                "add_ref_latent_in_control_model",
                "enable_text_attention_mask",
                "resize_inpaint_mask_directly",
                "sample_height",
                "sample_width",
                "time_position_encoding_type",
                "timestep_activation_fn",
            )
        ),
        assumes={
            "activation_fn": ("gelu-approximate",),
            "after_norm": (False,),
            "enable_clip_in_inpaint": (False,),
            "norm_elementwise_affine": (True,),
        },
    ),
    Family(
        (),
        autoencoder,
        ("AutoencoderKLMagvit",),
        ignores=frozenset(
            (
                "down_block_types",
                "slice_mag_vae",
                "slice_compression_vae",
                "cache_compression_vae",
                "cache_mag_vae",
                "use_tiling",
                "use_tiling_encoder",
                "use_tiling_decoder",
                "mini_batch_encoder",
                "mini_batch_decoder",
                "spatial_group_norm",
                "up_block_types",
            )
        ),
        assumes={"mid_block_use_attention": (False,), "mid_block_attention_type": ("spatial",)},
    ),
)

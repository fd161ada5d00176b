"""ViT and DINOv2: vision transformers that yield features."""

from services.parser.families import clip
from services.parser.network import Family, Network, labels
from services.parser.section import Section
from services.parser.tally import Tally, convolution, embedding, linear, norm

_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 16,
}


def vit(c: Section) -> Network:
    """ViT with a pooler, or a classifier instead of it."""
    c = c.with_defaults(_DEFAULTS)
    width = c.integer("hidden_size")
    if c.architecture.endswith("ForImageClassification"):
        head = linear(width, labels(c), bias=True)
    else:
        head = linear(width, c.integer("pooler_output_size", default=width), bias=True)
    return Network({"embeddings": _stem(c), "layers": clip.layers(c) + norm(width, bias=True), "head": head})


def dinov2(c: Section) -> Network:
    """DINOv2: a scale per channel behind each block, and a token for masked patches."""
    c = c.with_defaults({**_DEFAULTS, "patch_size": 14})
    width, depth = c.integer("hidden_size"), c.integer("num_hidden_layers")
    inner = width * c.integer("mlp_ratio", default=4)
    stack = clip.layers(c.merged({"intermediate_size": inner})) + 2 * depth * width + norm(width, bias=True)
    if c.flag("use_swiglu_ffn"):
        # https://arxiv.org/abs/2304.07193: two thirds of the width, rounded up to eights, and a gate.
        narrow = (int(inner * 2 / 3) + 7) // 8 * 8
        plain = linear(width, inner, bias=True) + linear(inner, width, bias=True)
        gated = linear(width, 2 * narrow, bias=True) + linear(narrow, width, bias=True)
        stack += Tally(depth * (gated.parameters - plain.parameters))
    return Network({"embeddings": _stem(c) + width, "layers": stack})


def dinov3(c: Section) -> Network:
    """DINOv3: rotary positions, registers, and biases of its own choice."""
    width, inner, patch = c.integer("hidden_size"), c.integer("intermediate_size"), c.integer("patch_size", default=16)
    biases = sum(width for name in ("query", "value", "proj") if c.flag(f"{name}_bias", default=True))
    biases += width if c.flag("key_bias") else 0
    bias = c.flag("mlp_bias", default=True)
    block = linear(width, inner, bias) + linear(inner, width, bias)
    block += linear(width, inner, bias) if c.flag("use_gated_mlp") else 0
    layer = 4 * linear(width, width) + biases + block + 2 * norm(width, bias=True) + 2 * width
    tokens = (2 + c.integer("num_register_tokens", default=0)) * width
    stem = convolution(c.integer("num_channels", default=3), width, patch, patch) + tokens
    return Network({"embeddings": stem, "layers": c.integer("num_hidden_layers") * layer + norm(width, bias=True)})


def _stem(c: Section) -> Tally:
    width, patch = c.integer("hidden_size"), c.integer("patch_size")
    places = (c.integer("image_size") // patch) ** 2 + 1
    return convolution(c.integer("num_channels", default=3), width, patch, patch) + embedding(places + 1, width)


FAMILIES = (
    Family(
        ("dinov3_vit",),
        dinov3,
        capabilities=("VISION",),
        classes=("DINOv3ViTModel",),
        ignores=frozenset(
            ("pos_embed_rescale", "pos_embed_jitter", "pos_embed_shift", "image_size", "num_attention_heads")
        ),
    ),
    Family(
        ("vit",),
        vit,
        capabilities=("VISION",),
        classes=("ViTModel", "ViTForImageClassification"),
        ignores=frozenset(("encoder_stride", "pooler_act")),
        assumes={"qkv_bias": (True,)},
    ),
    Family(
        ("dinov2",),
        dinov2,
        capabilities=("VISION",),
        classes=("Dinov2Model", "Dinov2Backbone"),
        assumes={"qkv_bias": (True,), "use_mask_token": (True,)},
    ),
)

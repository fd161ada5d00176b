"""Wan: diffusion transformers for video with cross-attention to text, and VACE, which takes more than text."""

from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, linear, norm, plain, uncached

# The length of UMT5's states, which the authors' own format leaves to the code.
_TEXT = 4096
_PATCH = (1, 2, 2)


def wan(c: Section) -> Network:
    """Wan 2.1 and 2.2, in the authors' format and in that of diffusers."""
    heads = c.integer("num_heads", "num_attention_heads")
    width = c.stated_integer("dim") or heads * c.integer("attention_head_dim", default=128)
    inner, time = c.integer("ffn_dim"), c.integer("freq_dim", default=256)
    inputs, outputs = c.integer("in_dim", "in_channels", default=16), c.integer("out_dim", "out_channels", default=16)
    patch = c.integers("patch_size", default=_PATCH)
    block = _block(width, heads, inner)
    conditions = linear(time, width, bias=True) + linear(width, width, bias=True) + linear(width, 6 * width, bias=True)
    text = linear(c.integer("text_dim", default=_TEXT), width, bias=True) + linear(width, width, bias=True)
    volume = patch[0] * patch[1] * patch[2] if len(patch) == 3 else 4
    ends = convolution(inputs, width, volume) + linear(width, volume * outputs, bias=True) + 2 * width
    depth = c.integer("num_layers")
    parts = {"conditions": conditions, "text": text, "blocks": depth * block, "ends": ends}
    seen, added = c.stated_integer("image_dim"), c.stated_integer("added_kv_proj_dim")
    if c.model_type.startswith("i2v") and not seen:
        c.doubt("of models that start from a picture, Wan 2.1 has a part for it and 2.2 has none")
    elif c.model_type and not c.model_type.startswith(("t2v", "ti2v", "i2v")):
        c.doubt(f"what Wan adds for {c.model_type[:40]!r} is not described")
    picture = Tally()
    if seen:
        picture += linear(seen, seen, bias=True) + linear(seen, width, bias=True)
        picture += norm(seen, bias=True) + norm(width, bias=True)
        picture += (c.stated_integer("pos_embed_seq_len") or 0) * seen
    if added:
        # Keys and values of the picture beside those of the text.
        picture += depth * (2 * linear(added, width, bias=True) + norm(width))
    parts["picture"] = picture
    return Network(parts)


def vace(c: Section) -> Network:
    """Wan VACE: further blocks beside some of the others, with projections from and to them.

    The formula follows transformer_wan_vace.py of diffusers. It is held against no published count, only against the
    sizes of published files, so it is an estimate.
    """
    whole = wan(c.merged({"model_type": "t2v"}))
    heads = c.integer("num_heads", "num_attention_heads")
    width = c.stated_integer("dim") or heads * c.integer("attention_head_dim", default=128)
    patch = c.integers("patch_size", default=_PATCH)
    inputs = c.integer("vace_in_dim", "vace_in_channels", default=96)
    beside = len(c.items("vace_layers")) or (c.integer("num_layers") + 1) // 2
    blocks = beside * (_block(width, heads, c.integer("ffn_dim")) + linear(width, width, bias=True))
    ends = linear(width, width, bias=True) + convolution(inputs, width, *patch)
    return Network(
        {**whole.parts, "conditioning": blocks + ends},
        exact=False,
        why="what VACE adds to Wan is held against no published count",
    )


def _block(width: int, heads: int, inner: int) -> Tally:
    attending = attention(width, heads, bias=True) + 2 * norm(width)
    crossing = attention(width, heads, bias=True, inputs=width) + 2 * norm(width) + norm(width, bias=True)
    return uncached(attending) + crossing + plain(width, inner) + 6 * width


FAMILIES = (
    Family((), vace, ("VaceWanModel", "WanVACETransformer3DModel")),
    Family(
        (),
        wan,
        ("WanModel", "WanTransformer3DModel"),
        ignores=frozenset(("rope_max_seq_len",)),
        assumes={"cross_attn_norm": (True,), "qk_norm": (True, "rms_norm_across_heads")},
    ),
)

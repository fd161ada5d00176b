"""BLIP and GIT: captions from a vision encoder and a BERT-like decoder."""

from services.parser import catalogue
from services.parser.families import clip
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import attention, convolution, embedding, linear, norm, plain


def blip(c: Section) -> Network:
    """BLIP for captions: the decoder attends to the picture in every layer, its head is tied."""
    t, v = c.section("text_config"), c.section("vision_config")
    width, seen, patch = t.integer("hidden_size"), v.integer("hidden_size"), v.integer("patch_size")
    if t.integer("encoder_hidden_size", default=seen) != seen:
        c.doubt("the decoder attends to another width than the tower has")
    if not t.flag("is_decoder", default=True):
        c.doubt("without a decoder there is nothing that attends to the picture")
    places = (v.integer("image_size") // patch) ** 2 + 1
    stem = convolution(3, seen, patch, patch) + embedding(places + 1, seen) + norm(seen, bias=True)
    heads, entries = t.integer("num_attention_heads"), t.integer("vocab_size")
    crossing = attention(width, heads, bias=True, inputs=t.integer("encoder_hidden_size", default=seen))
    layer = attention(width, heads, bias=True) + crossing
    layer += plain(width, t.integer("intermediate_size")) + 3 * norm(width, bias=True)
    head = linear(width, width, bias=True) + norm(width, bias=True) + entries
    tables = embedding(entries + t.integer("max_position_embeddings", default=512), width) + norm(width, bias=True)
    return Network(
        {
            "vision_tower": stem + clip.layers(v),
            "embeddings": tables,
            "layers": t.integer("num_hidden_layers") * layer,
            "head": head,
        }
    )


def git(c: Section) -> Network:
    """GIT: the picture's features are tokens before the text."""
    width, entries = c.integer("hidden_size", default=768), c.integer("vocab_size", default=30522)
    seen = c.section("vision_config").integer("hidden_size", default=768)
    layer = attention(width, c.integer("num_attention_heads", default=12), bias=True)
    layer += plain(width, c.integer("intermediate_size", default=3072)) + 2 * norm(width, bias=True)
    tables = embedding(entries + c.integer("max_position_embeddings", default=1024), width) + norm(width, bias=True)
    frames = c.stated_integer("num_image_with_embedding") or 0
    vision = c.section("vision_config").with_defaults({"patch_size": 16})
    tower = catalogue.tower(c.merged({"tower": {**vision.values, "model_type": "clip_vision_model"}}), "tower", "")
    return Network(
        {
            "vision_tower": tower,
            "projector": linear(seen, width, bias=True) + norm(width, bias=True) + frames * seen,
            "embeddings": tables,
            "layers": c.integer("num_hidden_layers", default=6) * layer,
            "head": linear(width, entries, bias=True),
        }
    )


FAMILIES = (
    Family(
        ("blip",),
        blip,
        capabilities=("IMAGE_TEXT_TO_TEXT",),
        classes=("BlipForConditionalGeneration",),
        ignores=frozenset(
            (
                "image_text_hidden_size",
                "projection_dim",
                "num_channels",
            )
        ),
        assumes={"tie_word_embeddings": (True,)},
        parts=("blip_text_model", "blip_vision_model"),
    ),
    Family(
        ("git",),
        git,
        capabilities=("IMAGE_TEXT_TO_TEXT",),
        classes=("GitForCausalLM",),
        ignores=frozenset(("projection_dim",)),
        assumes={"tie_word_embeddings": (False, True)},
        parts=("git_vision_model",),
    ),
)

"""LLaVA and those built like it: any vision encoder, a projector of two layers, any language model."""

from services.parser import catalogue
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, linear, norm


def llava(c: Section) -> Network:
    """LLaVA 1.5 and Pixtral in the library's format."""
    language = catalogue.language_part(c, "text_config", "llama")
    tower = catalogue.tower(c, "vision_config", "clip_vision_model")
    seen = c.section("vision_config").integer("hidden_size") * _features(c)
    width, bias = _width(c), c.flag("multimodal_projector_bias", default=True)
    projector = linear(seen, width, bias) + linear(width, width, bias)
    return Network({**language.parts, "vision_tower": tower, "projector": projector}, language.prediction)


def llava_next(c: Section) -> Network:
    """LLaVA-NeXT and OneVision: LLaVA and a token that ends each line of a picture."""
    network = llava(c)
    return Network({**network.parts, "newline": Tally(_width(c))}, network.prediction)


def mistral3(c: Section) -> Network:
    """Mistral Small 3.1 and later: neighbouring patches are merged before the projector."""
    language = catalogue.language_part(c, "text_config", "mistral")
    tower = catalogue.tower(c, "vision_config", "pixtral")
    seen, merged = c.section("vision_config").integer("hidden_size"), c.integer("spatial_merge_size", default=2) ** 2
    width, bias = _width(c), c.flag("multimodal_projector_bias")
    merger = norm(seen) + linear(seen * merged, seen)
    projector = merger + linear(seen * _features(c), width, bias) + linear(width, width, bias)
    return Network({**language.parts, "vision_tower": tower, "projector": projector})


def original(c: Section) -> Network:
    """LLaVA before it came to the library: the tower is named, not described, and may be stored elsewhere."""
    language = catalogue.describe(c, c.model_type, "LlamaForCausalLM")
    seen, width = c.integer("mm_hidden_size"), c.integer("hidden_size")
    projector = linear(seen, width, bias=True) + linear(width, width, bias=True)
    return Network(
        {**language.parts, "projector": projector},
        exact=False,
        why="the vision tower is only named in the configuration and may be stored elsewhere",
    )


def _features(c: Section) -> int:
    # Some models join the states of several layers of the tower.
    return max(len(c.items("vision_feature_layer")), 1)


def _width(c: Section) -> int:
    return c.section("text_config").integer("hidden_size", default=4096)


FAMILIES = (
    Family(
        ("llava",),
        llava,
        classes=("LlavaForConditionalGeneration",),
        ignores=frozenset(("head_dim", "projection_dim", "vocab_size", "pretraining_projection_dim")),
    ),
    Family(
        ("llava_next", "llava_next_video", "llava_onevision"),
        llava_next,
        classes=(
            "LlavaNextForConditionalGeneration",
            "LlavaNextVideoForConditionalGeneration",
            "LlavaOnevisionForConditionalGeneration",
        ),
        ignores=frozenset(
            (
                *("head_dim", "projection_dim", "vocab_size", "image_grid_pinpoints", "vision_aspect_ratio"),
                *("spatial_pool_mode", "spatial_pool_stride", "spatial_pool_out_channels", "video_seq_length"),
                *("use_image_newline_parameter", "hidden_size"),
            )
        ),
    ),
    Family(
        ("mistral3", "lighton_ocr"),
        mistral3,
        classes=("Mistral3ForConditionalGeneration", "LightOnOcrForConditionalGeneration"),
        ignores=frozenset(("head_dim", "image_size", "vocab_size")),
    ),
    Family((), original, ("LlavaLlamaForCausalLM",)),
)

"""Qwen3-Omni: a thinker that hears, sees and writes, a talker that makes codes of speech, and their way into a wave.

The formula follows modeling_qwen3_omni_moe.py of transformers. It yields the 35,259,818,545 parameters of the published
weights of Qwen3-Omni-30B-A3B-Instruct.
"""

from services.parser import catalogue
from services.parser.families.qwen2_vl import vision_tower
from services.parser.layers import gated_layer, grouped_attention, routed
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, embedding, gated, linear, norm, plain, uncached

# Three convolutions over the spectrum, each of which halves the bands.
_HALVINGS = 3
_KERNEL = 7


def qwen3_omni(c: Section) -> Network:
    """Qwen3-Omni with its talker, unless the configuration switches that off."""
    thinker = c.section("thinker_config")
    parts = {
        **catalogue.language_part(thinker, "text_config", "qwen3_omni_moe_text").parts,
        "audio_tower": uncached(_audio(thinker.section("audio_config"))),
        "vision_tower": vision_tower(thinker.section("vision_config")),
    }
    if c.flag("enable_audio_output", default=True):
        parts["talker"] = uncached(_talker(c.section("talker_config")))
        parts["code2wav"] = uncached(_wave(c.section("code2wav_config")))
    return Network(parts)


def _audio(a: Section) -> Tally:
    width, out, hidden = a.integer("d_model"), a.integer("output_dim"), a.integer("downsample_hidden_size")
    bands = a.integer("num_mel_bins")
    for _ in range(_HALVINGS):
        bands = (bands + 1) // 2
    entrance = convolution(1, hidden, 3, 3) + (_HALVINGS - 1) * convolution(hidden, hidden, 3, 3)
    layer = attention(width, a.integer("encoder_attention_heads"), bias=True) + 2 * norm(width, bias=True)
    layer += plain(width, a.integer("encoder_ffn_dim"))
    ends = linear(hidden * bands, width) + norm(width, bias=True)
    projector = linear(width, width, bias=True) + linear(width, out, bias=True)
    return entrance + a.integer("encoder_layers") * layer + ends + projector


def _talker(t: Section) -> Tally:
    """A mixture of experts over codes, and a small decoder that predicts the further codes of each moment."""
    text, predictor = t.section("text_config"), t.section("code_predictor_config")
    width, thought, codes = text.integer("hidden_size"), t.integer("thinker_hidden_size"), text.integer("vocab_size")
    shared = text.integer("shared_expert_intermediate_size")
    mixture = routed(
        width,
        text.integer("num_experts"),
        text.integer("num_experts_per_tok"),
        text.integer("moe_intermediate_size"),
        shared_inner=shared,
    )
    # The shared expert has a gate of its own.
    layer = grouped_attention(text, head_norm=True) + mixture + width + 2 * norm(width)
    entrances = 2 * (linear(thought, text.integer("intermediate_size"), bias=True))
    entrances += 2 * linear(text.integer("intermediate_size"), width, bias=True)
    decoder = text.integer("num_hidden_layers") * layer + norm(width)
    ends = embedding(codes, width) + linear(width, codes)
    inner, further = predictor.integer("hidden_size"), t.integer("num_code_groups") - 1
    predicting = predictor.integer("num_hidden_layers") * gated_layer(predictor, head_norm=True) + norm(inner)
    predicting += 2 * further * embedding(predictor.integer("vocab_size"), inner)
    return entrances + decoder + ends + predicting


def _wave(w: Section) -> Tally:
    width, inner = w.integer("hidden_size", default=1024), w.integer("intermediate_size", default=3072)
    heads = w.integer("num_attention_heads", default=16)
    kv_heads = w.integer("num_key_value_heads", default=heads)
    # Each of the two blocks has a scale per channel beside its norm.
    layer = attention(width, heads, kv_heads) + gated(width, inner) + 4 * norm(width)
    total = w.integer("num_hidden_layers", default=8) * layer + norm(width)
    total += embedding(w.integer("codebook_size", default=2048) * w.integer("num_quantizers", default=16), width)
    for factor in w.integers("upsampling_ratios", default=(2, 2)):
        mixing = convolution(1, width, _KERNEL) + norm(width, bias=True) + plain(width, 4 * width) + width
        total += convolution(width, width, factor) + mixing
    outer = w.integer("decoder_dim", default=1536)
    total += convolution(width, outer, _KERNEL)
    for rate in w.integers("upsample_rates", default=(8, 5, 4, 3)):
        # An activation has two learned numbers per channel.
        total += 2 * outer + convolution(outer, outer // 2, 2 * rate)
        outer //= 2
        total += 3 * (4 * outer + convolution(outer, outer, _KERNEL) + convolution(outer, outer, 1))
    return total + 2 * outer + convolution(outer, 1, _KERNEL)


FAMILIES = (
    Family(
        ("qwen3_omni_moe",),
        qwen3_omni,
        classes=("Qwen3OmniMoeForConditionalGeneration",),
        ignores=frozenset(
            (
                "accept_hidden_layer",
                "codec_bos_id",
                "codec_eos_token_id",
                "codec_nothink_id",
                "codec_pad_id",
                "codec_think_bos_id",
                "codec_think_eos_id",
                "conv_chunksize",
                "n_window",
                "n_window_infer",
                "max_source_positions",
                "position_id_per_seconds",
                "seconds_per_chunk",
                "speaker_id",
                "spatial_merge_size",
                "sliding_window",
                "layer_scale_initial_scale",
                "scale_embedding",
                "num_hidden_layers",
                "user_token_id",
                "max_position_embeddings",
                "image_size",
                "tokens_per_second",
                "apply_vit_abs_pos_embed",
            )
        ),
        assumes={"attention_bias": (False,), "mlp_only_layers": ([],), "decoder_sparse_step": (1,)},
        parts=(
            "qwen3_omni_moe_thinker",
            "qwen3_omni_moe_text",
            "qwen3_omni_moe_audio_encoder",
            "qwen3_omni_moe_vision_encoder",
            "qwen3_omni_moe_talker",
            "qwen3_omni_moe_talker_text",
            "qwen3_omni_moe_talker_code_predictor",
            "qwen3_omni_moe_code2wav",
        ),
    ),
)

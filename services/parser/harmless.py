"""Which keys of a configuration change no count, whatever network it configures.

Decides what a description need not ask for: a key that neither it nor this page knows may mean another network. Only
keys whose name leaves no doubt stand here; those that one class ignores and another counts stand on families' pages.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from services.parser.section import KnownKeys, Reading

_MAX_UNKNOWN = 20
_LONGEST_WORD = 64
_TEXT_SECTIONS = ("text_config", "llm_config", "language_config")

_LIBRARY = (
    # How weights are packed is no matter of how many there are.
    "quantization_config quantization compression_config _attn_implementation _attn_implementation_autoset "
    "_attn_implementation_internal _class_name _commit_hash _diffusers_version _experts_implementation "
    "_name_or_path _remove_final_layer_norm architectures attn_impl attn_implementation auto_map cache_dir dtype "
    "framework gguf_file library_name license model_dtype name_or_path params_dtype pipeline_tag precision "
    "processor_class resume_path return_dict run_name tags task task_specific_params tokenizer_class "
    "tokenizer_model_max_length tokenizer_padding_side torch_dtype torchscript transformers.js_config "
    "transformers_version transformers_weights unsloth_fixed unsloth_version version finetuning_task "
    "sbert_ce_default_activation_function tokenizer_type tokenizer_name verbose support_languages "
    "sentence_transformers custom_pipelines problem_type id2label label2id num_labels chunk_size_feed_forward "
    "pruned_heads use_bfloat16 tf_legacy_loss bf16 fp16 fp32 flash_attention use_flash_attn use_flash_attention "
    "use_flash_attention_2 use_flash_rotary use_flash_rope use_flash_rms use_flash_norm use_xformers use_sdpa "
    "use_fused_rms_norm use_fused_rope use_fused_swiglu use_kernels use_fused_mlp use_fused_cross_entropy fuse_norm "
    "fuse_swiglu fuse_cross_entropy fused_bias_fc fused_dropout_add_ln fused_mlp deterministic_flash_attn "
    "reference_compile softmax_precision logits_precision use_cache_quantization use_cache_kernel low_cpu_mem_usage "
    "is_causal attn_mechanism model_parallel ep_size inference_runner pre_allocate_kv_cache validate_runner_input "
    "pad_key_length slow_but_exact use_mamba_kernels use_mambapy use_associative_scan mamba_ssm_cache_dtype "
    "mamba_ssm_dtype force_upcast parallel_attn_mlp_res_dtype"
)
_GENERATION = (
    "use_cache output_hidden_states output_attentions output_router_logits output_past output_scores do_sample "
    "early_stopping length_penalty max_length min_length max_new_tokens no_repeat_ngram_size num_beams "
    "num_beam_groups diversity_penalty encoder_no_repeat_ngram_size num_return_sequences remove_invalid_values "
    "repetition_penalty return_dict_in_generate temperature top_k top_p typical_p bad_words_ids prefix "
    "suppress_tokens begin_suppress_tokens forced_decoder_ids num_logits_to_keep logits_to_keep "
    "keep_in_fp32_modules cache_implementation max_window_layers chat_format chat_template template system_message "
    "median_filter_width is_encoder_decoder exponential_decay_length_penalty generation_config token_healing "
    "pad_token eos_token bos_token eos_token_ids codebook_pattern"
)
_TRAINING = (
    "initializer_range initializer_factor initializer_cutoff_factor init_std init_method init_method_std "
    "init_device init_config init_xavier_std rescale_prenorm_residual time_step_init_scheme w_init_variance_scale "
    "final_w_init_variance_scale embedding_initializer_range layerdrop encoder_layerdrop decoder_layerdrop "
    "drop_path_rate drop_path gradient_checkpointing use_gradient_checkpointing router_aux_loss_coef aux_loss_alpha "
    "aux_loss_coef seq_aux router_z_loss_coef z_loss_coefficient z_loss_weight load_balance_coeff "
    "moe_router_aux_loss_coef router_jitter_noise input_jitter_noise apply_spec_augment mask_feature_length "
    "mask_feature_prob mask_feature_min_masks mask_time_length mask_time_prob mask_time_min_masks "
    "ctc_loss_reduction ctc_zero_infinity contrastive_logits_temperature diversity_loss_weight label_smoothing "
    "sparse_pred_ignore_index sparse_prediction ignore_index ignore_value use_guided_attention_loss "
    "guided_attention_loss_num_heads guided_attention_loss_scale guided_attention_loss_sigma freeze_vision_tower "
    "tune_language_model tune_mm_projector tune_vision_tower use_backbone_lora use_llm_lora "
    "unfreeze_mm_vision_tower mm_projector_lr tune_mm_mlp_adapter freeze_mm_mlp_adapter sequence_parallel "
    "add_noise_in_inpaint_model train_batch_size moe_token_dropping moe_shared_expert_overlap router_dtype "
    "moe_router_dtype expert_capacity eval_capacity_factor capacity_factor moe_capacity_factor bias_update_speed"
)
_ARITHMETIC = (
    "rope_theta rope_scaling rope_parameters rope_base rope_ratio rope_local_base_freq rope_interleave rope_mode "
    "rope_traditional rope_type rotary_emb_base rotary_pct rotary_dim rotary_percentage rotary_emb_fraction "
    "rotary_base partial_rotary_factor original_rope original_max_position_embeddings initial_context_length "
    "interpolate_factor use_dynamic_ntk use_logn_attn use_mrope mrope_section compress_rope_theta axes_dims_rope "
    "indexer_rope_interleave swa_rope_theta global_rope_theta local_rope_theta local_attention "
    "global_attn_every_n_layers sliding_window sliding_window_size sliding_window_pattern _sliding_window_pattern "
    "use_sliding_window window_size window attention_window_size attention_chunk_size attention_window "
    "attn_temperature_tuning floor_scale attn_scale no_rope_layers no_rope_layer_interval rms_norm_eps "
    "layer_norm_eps layer_norm_epsilon layernorm_epsilon norm_eps norm_epsilon mixer_rms_eps eps time_step_floor "
    "time_step_max time_step_min time_step_limit time_step_scale residual_in_fp32 scale_attn_weights "
    "scale_attn_by_inverse_layer_idx reorder_and_upcast_attn attention_softmax_in_fp32 "
    "scale_attention_softmax_in_fp32 apply_query_key_layer_scaling fp32_residual_connection bias_dropout_fusion "
    "attention_multiplier embedding_multiplier logits_scaling residual_multiplier logit_scale "
    "logit_scale_init_value embedding_scale scale_emb scale_depth dim_model_base query_pre_attn_scalar "
    "attn_logit_softcapping final_logit_softcapping logits_soft_cap attention_value_scale attention_logit_cap "
    "softcap scale_embedding norm_topk_prob routed_scaling_factor router_scaling_factor "
    "moe_router_topk_scaling_factor n_group topk_group topk_method scoring_func score_func moe_norm_min "
    "moe_router_score_function swiglu_limit swiglu_alpha swiglu_beta chunk_size mamba_chunk_size expand_chunk "
    "hc_eps hc_sinkhorn_iters index_topk index_topk_freq index_skip_topk_offset index_share_for_mtp_iteration "
    "qk_head_dim pretraining_tp clip_qkv max_position_embeddings model_max_length max_seq_len seq_length "
    "max_sequence_length max_seq_length max_tokenizer_truncation n_ctx use_qkv_clip relative_attention_max_distance "
    "max_bucket_distance alibi_bias_max logits_cap post_layer_norm"
)
_MEDIA = (
    "image_mean image_std image_seq_length image_aspect_ratio image_grid_pinpoints image_split_resolution "
    "vision_feature_layer vision_feature_select_strategy mm_vision_select_feature mm_vision_select_layer "
    "select_layer mm_use_im_patch_token mm_use_im_start_end mm_patch_merge_type mm_resampler_type "
    "mm_tokens_per_image vision_soft_tokens_per_image default_output_length dynamic_image_size force_image_size "
    "max_dynamic_patch min_dynamic_patch use_thumbnail ps_version tokens_per_second position_id_per_seconds "
    "seconds_per_chunk n_window n_window_infer fullatt_block_indexes num_video_frames video_placeholder "
    "process_image_mode vision_segment_max_frames s2 s2_scales s2_max_split_size vision_resolution text_len "
    "interpolate_mode latents_mean latents_std scaling_factor shift_factor sample_size flip_sin_to_cos freq_shift "
    "downsample_padding out_features out_indices stage_names reshape_hidden_states apply_layernorm layerscale_value "
    "max_speech_positions max_num_tiles max_image_tiles supported_aspect_ratios max_pixels min_pixels "
    "video_max_pixels sampling_rate"
)
IGNORED = frozenset(f"{_LIBRARY} {_GENERATION} {_TRAINING} {_ARITHMETIC} {_MEDIA}".split())
# Token numbers, dropout rates and epsilons have names without end.
_IGNORED_PATTERN = re.compile(
    r"_token_ids?$|_token_index$|_token_idx$|^token_ids?$"
    r"|(^|_)(dropout|pdrop|dropout_prob|dropout_rate|dropout_p|drop_prob|dropout_ratio)$"
    r"|(^|_)(eps|epsilon)$|_loss_(coef|weight|coefficient)$|^_sliding_window|^_?unsloth"
)
_ACTIVATIONS = (
    "gelu gelu_10 gelu_fast gelu_new gelu_python gelu_pytorch_tanh gelu_accurate gelu-approximate quick_gelu relu "
    "relu2 relu6 silu swish mish tanh sigmoid linear laplace leaky_relu selu elu xielu sigmoid_gelu"
)
_PLAIN_ACTIVATIONS = frozenset(_ACTIVATIONS.split())
# Keys whose value decides whether they change anything: with one of these it is what every page assumes.
ASSUMED: Mapping[str, frozenset[Any]] = {
    "hidden_act": _PLAIN_ACTIVATIONS,
    "hidden_activation": _PLAIN_ACTIVATIONS,
    "activation_function": _PLAIN_ACTIVATIONS,
    "mlp_hidden_act": _PLAIN_ACTIVATIONS,
    "mamba_hidden_act": _PLAIN_ACTIVATIONS,
    "projector_hidden_act": _PLAIN_ACTIVATIONS,
    "act_fn": _PLAIN_ACTIVATIONS,
    "add_cross_attention": frozenset((False,)),
    "tie_encoder_decoder": frozenset((False,)),
    "is_decoder": frozenset((False,)),
    "position_embedding_type": frozenset(("absolute", "rope", "rope_gptj", "rotary")),
    "use_weighted_layer_sum": frozenset((False,)),
    # Of a list, each item is one of these.
    "layer_types": frozenset(("full_attention", "sliding_attention", "chunked_attention")),
    "norm_num_groups": frozenset((32,)),
}


def unknown_keys(values: Mapping[str, Any], reading: Reading) -> list[str]:
    """The keys that are stated and that nobody knows: neither read by a description nor harmless, by their paths."""
    return list(islice(_unknown(values, reading, "", _Known()), _MAX_UNKNOWN))


class _Known(NamedTuple):
    """What the pages of a section and of those around it know."""

    ignores: frozenset[str] = frozenset()
    assumes: Mapping[str, tuple[Any, ...]] = {}
    parts: frozenset[str] = frozenset()

    def and_of(self, page: KnownKeys) -> "_Known":
        assumes = {**self.assumes, **page.assumes}
        return _Known(self.ignores | page.ignores, assumes, self.parts | {*page.parts, *page.model_types})


def _unknown(values: Mapping[str, Any], reading: Reading, path: str, known: _Known) -> Iterator[str]:
    # What a page ignores in a section it ignores in the sections inside, too.
    for page in reading.pages.get(path, ()):
        known = known.and_of(page)
    asked: Collection[str] = reading.names.get(path, ())
    for key, value in values.items():
        if value is None or key in IGNORED or key in known.ignores or _is_ignored(key):
            continue
        inner = f"{path}{key}"
        if key not in asked:
            if not (_is_assumed(key, value, known) or (not path and _is_repeated(key, value, values))):
                yield inner
        elif isinstance(value, dict):
            if f"{inner}." in reading.names:
                yield from _unknown(value, reading, f"{inner}.", known)
            else:
                yield inner
        elif isinstance(value, list) and f"{inner}[0]." in reading.names:
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    yield from _unknown(item, reading, f"{inner}[{index}].", known)


def _is_ignored(key: str) -> bool:
    # What is remembered must not grow with what somebody sends.
    return _is_ignored_word(key) if len(key) <= _LONGEST_WORD else bool(_IGNORED_PATTERN.search(key))


@lru_cache(maxsize=4096)
def _is_ignored_word(key: str) -> bool:
    # Configurations share most of their keys, and a search takes longer than all else that is done about one.
    return bool(_IGNORED_PATTERN.search(key))


def _is_assumed(key: str, value: Any, known: _Known) -> bool:
    if key == "model_type":
        return isinstance(value, str) and value in known.parts
    if isinstance(value, list):
        return value in known.assumes.get(key, ()) or (bool(value) and all(_is_word_of(key, item) for item in value))
    if isinstance(value, dict):
        return False
    if key in known.assumes:
        return value in known.assumes[key]
    return value in ASSUMED.get(key, ())


def _is_repeated(key: str, value: Any, values: Mapping[str, Any]) -> bool:
    """Whether the outer configuration only says once more what it says of its language model."""
    sections = (values.get(name) for name in _TEXT_SECTIONS)
    return not isinstance(value, dict) and any(isinstance(s, dict) and s.get(key) == value for s in sections)


def _is_word_of(key: str, value: Any) -> bool:
    return isinstance(value, str) and value in ASSUMED.get(key, ())

"""Directories that have no configuration of transformers or diffusers: adapters, GGUF, native and engine formats.

Decides which format a directory is of, and reads what its own files state. Where a format states the sizes of a network
that a page describes, the page counts it.
"""

import re
from collections.abc import Callable
from typing import Any

from ome.parser.v1.parser_pb2 import (
    CERTAINTY_ESTIMATED,
    CERTAINTY_EXACT,
    COUNT_SOURCE_ESTIMATE,
    COUNT_SOURCE_FORMULA,
    COUNT_SOURCE_HEADERS,
    Adapter,
    ModelFacts,
    ParameterCount,
    Quantization,
)
from services.parser import catalogue
from services.parser.capabilities import CLASSIFICATION, EMBEDDING, IMAGE_TEXT_TO_TEXT, TEXT_GENERATION, VISION
from services.parser.counting import count_tensors
from services.parser.gguf import GgufHeader
from services.parser.intake import Directory
from services.parser.modules import modules_of_adapter
from services.parser.naming import size_name
from services.parser.parameters import Page, decide, look_up, state_count, state_stored
from services.parser.precision import bits_of, stored_dtype
from services.parser.quantization import scheme_of
from services.parser.section import Section, Undescribed
from services.parser.weights import Weights, is_adapter_file, tensors_of, weights_in

_MAX_NAMES = 100
_MAX_NAME = 200
_INT32 = (1 << 31) - 1
_LOW_RANK = re.compile(r"lora_(A|down|embedding_A)\b|lora\.down\b|lora_a$")

Reader = Callable[[Directory], ModelFacts | None]


def facts_of_format(directory: Directory) -> ModelFacts | None:
    """The facts of a directory of another format, or None when it is of none that is known."""
    for read in _READERS:
        facts = read(directory)
        if facts is not None:
            return facts
    return None


def adapter(directory: Directory) -> ModelFacts | None:
    """https://huggingface.co/docs/peft/package_reference/config: what is changed of which model, and how."""
    c = Section(directory.document("adapter_config.json"))
    files = [path for path in directory.headers if "/" not in path and is_adapter_file(path)]
    if "adapter_config.json" not in directory.documents and not files:
        return None
    mlx = c.section("lora_parameters")
    rank, alpha = _small(c, "r"), c.number("lora_alpha", "alpha")
    if mlx:
        rank, alpha = _small(mlx, "rank"), mlx.number("alpha") or mlx.number("scale") * _small(mlx, "rank")
    stated = c.text("peft_type", "fine_tune_type", default="LORA" if not c else "")[:_MAX_NAME]
    found = Adapter(
        type=stated.upper() if mlx else stated,
        rank=rank,
        alpha=alpha,
        base_model=c.text("base_model_name_or_path", "model")[:_MAX_NAME],
        task=c.text("task_type")[:_MAX_NAME],
        target_modules=_names(c, "target_modules") or _names(mlx, "keys"),
        whole_modules=_names(c, "modules_to_save"),
    )
    facts = ModelFacts(
        framework="mlx" if mlx else "peft" if c else "diffusers",
        framework_version=c.text("peft_version")[:_MAX_NAME],
        adapter=found,
    )
    if files:
        _count_adapter(facts, directory, files)
    return facts


def _count_adapter(facts: ModelFacts, directory: Directory, files: list[str]) -> None:
    tensors, _ = tensors_of(directory, files)
    counted = count_tensors(tensors)
    facts.bytes_by_dtype.update(counted.bytes_by_dtype)
    facts.weight_bytes, facts.weight_bytes_certainty = counted.weight_bytes, CERTAINTY_EXACT
    facts.dtype = stored_dtype(dict(counted.bytes_by_dtype))
    ranks = {min(t.shape) for name, t in tensors.items() if _LOW_RANK.search(name) and len(t.shape) == 2}
    # Headers and configuration agree when every low-rank matrix has the stated rank.
    agrees = bool(ranks) and ranks == {facts.adapter.rank} and counted.is_decoded
    if not facts.adapter.rank and len(ranks) == 1:
        facts.adapter.rank = min(*ranks, _INT32)
    count = counted.parameters
    facts.parameters.CopyFrom(ParameterCount(count=count, source=COUNT_SOURCE_HEADERS, exact=agrees))
    if not agrees:
        facts.parameters.minimum, facts.parameters.maximum = counted.lowest or 1, max(counted.highest, count)
    facts.parameter_size = size_name(count) if agrees else ""
    facts.modules.extend(modules_of_adapter(tensors))


def _names(c: Section, name: str) -> list[str]:
    value = c.values.get(name)
    if isinstance(value, str):
        return [value[: 5 * _MAX_NAME]]
    return [item[:_MAX_NAME] for item in value[:_MAX_NAMES] if isinstance(item, str)] if isinstance(value, list) else []


def _small(c: Section, *names: str) -> int:
    try:
        return min(c.stated_integer(*names) or 0, _INT32)
    except Undescribed:
        return 0


def gguf(directory: Directory) -> ModelFacts | None:
    """The headers of GGUF files: parts of one model, or variants of it that differ in how they are quantized."""
    if not directory.ggufs:
        return None
    whole = {path: header for path, header in directory.ggufs.items() if header.architecture}
    if not whole:
        return ModelFacts(framework="gguf")
    # What sees beside a language model has a file of its own, for which "clip" stands.
    models = {path: header for path, header in whole.items() if header.architecture != "clip"} or whole
    first = next(iter(models.values()))
    kind, class_name = _GGUF_CLASSES.get(first.architecture, (first.architecture, ""))
    prefix = first.architecture
    facts = ModelFacts(
        model_type=kind,
        architecture=class_name,
        framework="gguf",
        format_version=str(first.version),
        context_length=first.number(f"{prefix}.context_length"),
        usable_context_length=first.number(f"{prefix}.context_length"),
        vocabulary_size=first.number(f"{prefix}.vocab_size") or first.lengths.get("tokenizer.ggml.tokens", 0),
        license=first.text("general.license")[:100],
    )
    facts.capabilities.extend(_gguf_capabilities(first, sees=len(models) < len(whole)))
    mixtures = {header.mixture for header in models.values() if header.mixture}
    split = {match[1]: int(match[2]) for path in models if (match := _SPLIT.search(path))}
    if len(mixtures) == 1:
        _state_mixture(facts, next(iter(mixtures)))
    elif len(mixtures) > 1:
        directory.warnings.append(f"There are {len(models)} variants in GGUF: {', '.join(sorted(mixtures))[:200]}.")
    if len(models) == 1 or (len(split) == 1 and next(iter(split.values())) == len(models)):
        _count_gguf(facts, list(models.values()), _gguf_page(first))
    elif len({header.parameters for header in models.values()}) == 1 and not split:
        _count_gguf(facts, [first], _gguf_page(first))
        facts.ClearField("weight_bytes")
        facts.ClearField("weight_bytes_certainty")
        facts.bytes_by_dtype.clear()
    return facts


_SPLIT = re.compile(r"^(.*)-\d{5}-of-(\d{5})\.gguf$")
# Names of GGUF's architectures in the library, where a page describes what they hold.
_GGUF_CLASSES = {
    "llama": ("llama", "LlamaForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen2moe": ("qwen2_moe", "Qwen2MoeForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "qwen3moe": ("qwen3_moe", "Qwen3MoeForCausalLM"),
    "gemma": ("gemma", "GemmaForCausalLM"),
    "gemma2": ("gemma2", "Gemma2ForCausalLM"),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM"),
    "phi3": ("phi3", "Phi3ForCausalLM"),
    "starcoder2": ("starcoder2", "Starcoder2ForCausalLM"),
    "granite": ("granite", "GraniteForCausalLM"),
    "command-r": ("cohere", "CohereForCausalLM"),
    "gpt-oss": ("gpt_oss", "GptOssForCausalLM"),
    "glm4": ("glm4", "Glm4ForCausalLM"),
    "olmo2": ("olmo2", "Olmo2ForCausalLM"),
    "exaone4": ("exaone4", "Exaone4ForCausalLM"),
    "seed_oss": ("seed_oss", "SeedOssForCausalLM"),
    "smollm3": ("smollm3", "SmolLM3ForCausalLM"),
}
_GGUF_ENCODERS = frozenset(
    ("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert", "t5encoder", "neo-bert")
)
# Keys of a header below the name of its architecture, as the library calls them.
_GGUF_KEYS = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "vocab_size": "vocab_size",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}


def _gguf_capabilities(header: GgufHeader, sees: bool) -> list[str]:
    if header.architecture == "clip":
        return [VISION]
    pooled = header.number(f"{header.architecture}.pooling_type")
    # 4 is the pooling of rerankers, 0 is none.
    if header.architecture in _GGUF_ENCODERS or pooled:
        return [CLASSIFICATION if pooled == 4 else EMBEDDING]
    if "token_embd.weight" not in header.shapes and not header.lengths.get("tokenizer.ggml.tokens"):
        return []
    return [TEXT_GENERATION, IMAGE_TEXT_TO_TEXT] if sees else [TEXT_GENERATION]


def _state_mixture(facts: ModelFacts, mixture: str) -> None:
    widths = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    if mixture in widths:
        facts.dtype = widths[mixture]
        return
    match = re.search(r"\d+", mixture)
    facts.quantization.CopyFrom(Quantization(method="gguf", bits=int(match[0]) if match else 0, format=mixture))


def _gguf_page(header: GgufHeader) -> Page:
    """The page of the network that a header describes, as far as it has one."""
    kind, class_name = _GGUF_CLASSES.get(header.architecture, ("", ""))
    values: dict[str, Any] = {
        ours: header.number(f"{header.architecture}.{theirs}")
        for theirs, ours in _GGUF_KEYS.items()
        if header.number(f"{header.architecture}.{theirs}")
    }
    if values.get("num_experts") and kind == "llama":
        kind, class_name, values["num_local_experts"] = "mixtral", "MixtralForCausalLM", values.pop("num_experts")
    table = header.shapes.get("token_embd.weight", ())
    if len(table) == 2:
        values["vocab_size"] = table[1]
    values |= {"model_type": kind, "architectures": [class_name]}
    values["tie_word_embeddings"] = "output.weight" not in header.shapes
    return look_up(Section(values)) if kind else Page(why=f"no description of {header.architecture!r}")


def _count_gguf(facts: ModelFacts, headers: list[GgufHeader], page: Page) -> None:
    count = sum(header.parameters for header in headers)
    whole = all(header.is_whole for header in headers)
    if whole and count:
        for header in headers:
            for kind, size in header.bytes_by_type.items():
                facts.bytes_by_dtype[kind] += size
        facts.weight_bytes = sum(facts.bytes_by_dtype.values())
        known = not any(kind.startswith("type ") for kind in facts.bytes_by_dtype)
        facts.weight_bytes_certainty = CERTAINTY_EXACT if known else CERTAINTY_ESTIMATED
        agrees = page.network is not None and page.network.total.parameters == count
        facts.parameters.CopyFrom(ParameterCount(count=count, source=COUNT_SOURCE_HEADERS, exact=agrees))
        if not agrees:
            # Tables of positions and tied heads are stored by some converters only.
            facts.parameters.minimum, facts.parameters.maximum = count * 7 // 10, count * 11 // 10
    elif page.network is not None:
        _state_page(facts, page, proven=False)
    _state_cache(facts, page)
    facts.parameter_size = size_name(facts.parameters.count) if facts.parameters.exact else ""


def _state_cache(facts: ModelFacts, page: Page) -> None:
    if page.network is not None and page.network.total.cached:
        # What serves it chooses the precision.
        facts.kv_cache_bytes_per_token = page.network.total.cached * 2
        facts.kv_cache_certainty = CERTAINTY_ESTIMATED


def _state_page(facts: ModelFacts, page: Page, *, proven: bool, spread: int = 0) -> None:
    """A count by a page; spread is what may be missing of it, such as a head that is tied without saying so."""
    assert page.network is not None
    total = page.network.total.parameters
    if proven:
        facts.parameters.CopyFrom(ParameterCount(count=total, source=COUNT_SOURCE_FORMULA, exact=True))
        facts.parameter_size = size_name(total)
        return
    low = max((total - spread) * 9 // 10, 1)
    high = total * 11 // 10
    facts.parameters.CopyFrom(ParameterCount(count=total, source=COUNT_SOURCE_ESTIMATE, minimum=low, maximum=high))


def native(directory: Directory) -> ModelFacts | None:
    """params.json beside consolidated weights, as Mistral and Meta publish them."""
    p = Section(directory.document("params.json"))
    if "dim" not in p or "n_layers" not in p:
        return None
    is_mistral = "hidden_dim" in p or p.section("moe")
    values = {
        "model_type": "mistral" if is_mistral else "llama",
        "hidden_size": _small(p, "dim"),
        "num_hidden_layers": _small(p, "n_layers"),
        "num_attention_heads": _small(p, "n_heads"),
        "num_key_value_heads": _small(p, "n_kv_heads") or _small(p, "n_heads"),
        "vocab_size": _small(p, "vocab_size"),
        "intermediate_size": _small(p, "hidden_dim") or _meta_inner(p),
        "tie_word_embeddings": p.flag("tied_embeddings"),
    }
    values |= {"head_dim": _small(p, "head_dim")} if "head_dim" in p else {}
    class_name = "MistralForCausalLM" if is_mistral else "LlamaForCausalLM"
    moe = p.section("moe")
    if moe:
        class_name = "MixtralForCausalLM"
        values |= {"model_type": "mixtral", "num_local_experts": _small(moe, "num_experts")}
        values["num_experts_per_tok"] = _small(moe, "num_experts_per_tok")
    page = look_up(Section({**values, "architectures": [class_name]}))
    length = _small(p, "max_position_embeddings", "max_seq_len", "max_seqlen")
    facts = ModelFacts(
        model_type=str(values["model_type"]),
        framework="mistral" if is_mistral else "meta",
        context_length=length,
        usable_context_length=length,
        vocabulary_size=_small(p, "vocab_size"),
    )
    _describe_native(facts, directory, p, page)
    return facts


_MISTRAL_KEYS = frozenset(
    (
        *("dim", "n_layers", "head_dim", "hidden_dim", "n_heads", "n_kv_heads", "norm_eps", "vocab_size", "rope_theta"),
        *(
            "sliding_window",
            "max_position_embeddings",
            "max_seq_len",
            "max_seqlen",
            "moe",
            "tied_embeddings",
            "use_biases",
        ),
        *("causal", "rope_scaling", "yarn", "_sliding_window", "model_type", "llama_4_scaling"),
    )
)


def _describe_native(facts: ModelFacts, directory: Directory, p: Section, page: Page) -> None:
    facts.capabilities.append(TEXT_GENERATION)
    if p.section("vision_encoder"):
        facts.capabilities.append(IMAGE_TEXT_TO_TEXT)
    unknown = [key for key in p.values if key not in _MISTRAL_KEYS and p.values[key] is not None]
    weights = weights_in(directory)
    if weights.files and not weights.missing:
        _count_native(facts, directory, weights, page)
        return
    if page.network is None:
        directory.warnings.append(f"The number of parameters is not known: {page.why}.")
        return
    # Meta's files do not say whether the head is tied.
    proven = facts.framework == "mistral" and not unknown and not p.flag("use_biases") and page.is_proven
    if unknown and facts.framework == "mistral":
        directory.warnings.append(f"The number of parameters is not known: {', '.join(unknown)[:200]} may change it.")
        return
    head = page.network.parts["head"].parameters
    _state_page(facts, page, proven=proven, spread=head)
    _state_cache(facts, page)


def _count_native(facts: ModelFacts, directory: Directory, weights: Weights, page: Page) -> None:
    """By headers, as of every model that has them: a page that they contradict is none of this model's."""
    tensors, repeated = tensors_of(directory, weights.files)
    counted = count_tensors(tensors, repeated=repeated)
    verdict = decide(Section({}), page, weights, counted, "", quantized=False, bits=0)
    state_count(facts.parameters, verdict, directory.warnings)
    if facts.parameters.exact:
        facts.parameter_size = size_name(facts.parameters.count)
    state_stored(facts, counted)
    _state_cache(facts, page)


def _meta_inner(p: Section) -> int:
    """https://github.com/meta-llama/llama: two thirds of four times the width, scaled, rounded up."""
    width = int(2 * 4 * _small(p, "dim") / 3)
    if "ffn_dim_multiplier" in p:
        width = int(p.number("ffn_dim_multiplier") * width)
    multiple = _small(p, "multiple_of") or 1
    return -(-width // multiple) * multiple


def genai(directory: Directory) -> ModelFacts | None:
    """https://onnxruntime.ai/docs/genai/reference/config.html: sizes of the cache, not of the network."""
    path = next((path for path in directory.documents if path.rpartition("/")[2] == "genai_config.json"), "")
    model = Section(directory.document(path)).section("model")
    if not path:
        return None
    decoder = model.section("decoder")
    length = _small(model, "context_length")
    facts = ModelFacts(
        model_type=model.text("type")[:_MAX_NAME],
        framework="onnxruntime-genai",
        context_length=length,
        usable_context_length=length,
        vocabulary_size=_small(model, "vocab_size"),
    )
    if decoder and not model.section("encoder"):
        facts.capabilities.append(TEXT_GENERATION)
        if model.section("vision"):
            facts.capabilities.append(IMAGE_TEXT_TO_TEXT)
    heads, head = _small(decoder, "num_key_value_heads"), _small(decoder, "head_size")
    facts.kv_cache_bytes_per_token = 2 * 2 * _small(decoder, "num_hidden_layers") * heads * head
    if facts.kv_cache_bytes_per_token:
        facts.kv_cache_certainty = CERTAINTY_ESTIMATED
    return facts


def mlc(directory: Directory) -> ModelFacts | None:
    """https://llm.mlc.ai/docs/deploy/mlc_chat_config.html."""
    c = Section(directory.document("mlc-chat-config.json"))
    if not c:
        return None
    inner = c.section("model_config")
    page = look_up(inner.merged({"model_type": c.model_type}))
    length = _small(c, "context_window_size") or _small(inner, "context_window_size")
    facts = ModelFacts(
        model_type=c.model_type[:_MAX_NAME],
        framework="mlc",
        framework_version=c.text("version")[:_MAX_NAME],
        context_length=length,
        usable_context_length=length,
        vocabulary_size=_small(c, "vocab_size") or _small(inner, "vocab_size"),
    )
    word = c.text("quantization")[:_MAX_NAME]
    match = re.match(r"q([1-8])f", word)
    if match:
        facts.quantization.CopyFrom(Quantization(method="mlc", bits=int(match[1]), format=word))
    if page.network is not None:
        facts.capabilities.append(TEXT_GENERATION)
        tables = sum(part.parameters for name, part in page.network.parts.items() if name in ("embeddings", "head"))
        _state_page(facts, page, proven=False, spread=tables)
        _state_cache(facts, page)
    return facts


def tensorrt(directory: Directory) -> ModelFacts | None:
    """TensorRT-LLM: the configuration of a checkpoint, which an engine repeats beside that of its build."""
    outer = Section(directory.document("config.json"))
    c = outer.section("pretrained_config") or outer
    engine = c is not outer
    if not engine and not ("architecture" in c and ("mapping" in c or "producer" in c)):
        return None
    class_name = c.text("architecture")[:_MAX_NAME]
    build = outer.section("build_config")
    stated = _small(c, "max_position_embeddings")
    facts = ModelFacts(
        architecture=class_name,
        framework="tensorrt-llm",
        framework_version=(outer.text("version") or c.section("producer").text("version"))[:_MAX_NAME],
        format="tensorrt" if engine else "",
        dtype=c.text("dtype")[:_MAX_NAME],
        context_length=stated,
        usable_context_length=_small(build, "max_seq_len") or stated,
        vocabulary_size=_small(c, "vocab_size"),
    )
    scheme = scheme_of(Section({}), Section({"quantization": {**c.section("quantization").values}}), Section({}))
    if scheme.stated is not None:
        facts.quantization.CopyFrom(scheme.stated)
    family = catalogue.family_of_class(class_name)
    if family is not None:
        kind = next(iter(family.model_types), "")
        facts.model_type = kind
        page = look_up(c.merged({"architectures": [class_name], "model_type": kind}))
        if class_name.endswith("ForCausalLM"):
            facts.capabilities.append(TEXT_GENERATION)
        if page.network is not None:
            _state_page(facts, page, proven=False, spread=page.network.total.parameters // 3)
            bits = scheme.cache_bits or bits_of(facts.dtype)
            facts.kv_cache_bytes_per_token = page.network.total.cached * bits // 8
            facts.kv_cache_certainty = CERTAINTY_ESTIMATED
    return facts


def by_name(directory: Directory) -> ModelFacts | None:
    """Formats whose files are not read: only their names tell."""
    for suffix, name in ((".nemo", "nemo"), ("model_config.yaml", "nemo"), (".engine", "tensorrt")):
        if any(path.endswith(suffix) for path in directory.sizes):
            return ModelFacts(framework=name, format=name)
    return None


_READERS: tuple[Reader, ...] = (adapter, native, genai, mlc, gguf, by_name)


def served_from(directory: Directory) -> dict[str, str]:
    """What reads the weights of a directory with a configuration of transformers, if that is another program."""
    names = {path.rpartition("/")[2] for path in directory.sizes}
    if any(name.startswith("openvino") and name.endswith(".xml") for name in names):
        return {"framework": "openvino", "format": "openvino"}
    if "genai_config.json" in names:
        return {"framework": "onnxruntime-genai", "format": "onnx"}
    return {"framework": "mlc", "format": "mlc"} if "mlc-chat-config.json" in names else {}

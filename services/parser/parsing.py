"""Turns a model directory into facts: finds its configuration, asks each module for its part, and names the sources.

The one entry point of the pure core. Must not do I/O.
"""

from collections.abc import Iterable

from libs.model.bounds import bound_texts
from libs.model.findings import completeness_message, remark_message
from ome.parser.v1.parser_pb2 import (
    CERTAINTY_ESTIMATED,
    CERTAINTY_EXACT,
    Component,
    LinearModule,
    ModelFacts,
    ParameterCount,
)
from services.parser import catalogue
from services.parser.capabilities import api_capabilities, capabilities_of, pipeline_capabilities
from services.parser.context import context_of, text_sections
from services.parser.counting import Counted, count_tensors, merge
from services.parser.errors import INCOMPLETE, NO_CONFIG, PARSE_FAILED, ParseError, TooLarge, malformed
from services.parser.formats import facts_of_format, served_from, tensorrt
from services.parser.intake import Directory, take_in
from services.parser.licence import licence_of
from services.parser.modules import modules_of_model
from services.parser.naming import size_name
from services.parser.parameters import decide, look_up, state_count, state_stored
from services.parser.precision import bits_of, dtype_of
from services.parser.quantization import Scheme, scheme_of
from services.parser.section import Section, Undescribed
from services.parser.tally import Tally
from services.parser.weights import (
    Weights,
    format_of,
    is_adapter_file,
    is_weight_file,
    tensors_of,
    weight_file_bytes,
    weights_in,
)
from services.parser.wholeness import judge_directory

_CONFIG = "config.json"
_PIPELINE = "model_index.json"
_SIDE = "hf_quant_config.json"
# What AutoGPTQ and AutoAWQ write beside a configuration that says nothing of it.
_BESIDE = ("quantize_config.json", "quant_config.json")
# Before sentence-transformers 2 the transformer had a folder of its own.
_OLD_SENTENCE_CONFIG = "0_Transformer/config.json"
_SENTENCE_LIMITS = ("sentence_bert_config.json", "0_Transformer/sentence_bert_config.json")
_MAX_COMPONENTS = 64
_WIDEST = 1.25
_MAX_WARNINGS = 50
# The format of safetensors has had one version, and runtimes are chosen by this way of writing it.
_FORMAT_VERSIONS = {"safetensors": "1.0.0"}


def parse_files(files: Iterable[tuple[str, int, bytes]], schema_path: str = "") -> ModelFacts:
    """The facts of whole files: path, size in bytes, and the bytes that are sent of it."""
    return parse_directory(take_in(files, schema_path))


def parse_directory(directory: Directory) -> ModelFacts:
    """The facts of a model directory, and whether it is whole. Raises ParseError."""
    verdict = judge_directory(directory)
    try:
        facts = _facts(directory)
    except UnicodeEncodeError as error:
        # Of a file that is no JSON, where such text is mended.
        raise ParseError(PARSE_FAILED, "a file holds text that is not Unicode, such as half a character") from error
    except TooLarge:
        raise
    except ParseError as error:
        if verdict.whole is False and not (directory.schema_path and error.reason is NO_CONFIG):
            # That the model is incomplete is why there are no facts, or is worse news in any case.
            raise ParseError(INCOMPLETE, verdict.message) from error
        raise
    facts.completeness.CopyFrom(completeness_message(verdict))
    facts.remarks.extend(map(remark_message, verdict.doubts))
    # The files may call themselves anything.
    bound_texts(facts)
    return facts


def _facts(directory: Directory) -> ModelFacts:
    path = _configuration_path(directory)
    facts = None
    if path != directory.schema_path or not path:
        facts = tensorrt(directory) or (facts_of_format(directory) if _is_of_another_format(directory, path) else None)
    if facts is None and not path:
        raise ParseError(
            NO_CONFIG, "the model has neither config.json nor model_index.json, nor files of another format"
        )
    c = Section(directory.document(path))
    if facts is None:
        try:
            facts = _pipeline(directory, c) if path == _PIPELINE else _model(directory, path, c)
        except Undescribed as error:
            raise malformed(path, str(error)) from error
        for name, word in served_from(directory).items():
            setattr(facts, name, word)
    facts.format = facts.format or format_of(directory)
    facts.format_version = facts.format_version or _FORMAT_VERSIONS.get(facts.format, "")
    facts.license = licence_of(directory.card) or facts.license or c.text("license")[:100]
    facts.warnings.extend(dict.fromkeys(directory.warnings[:_MAX_WARNINGS]))
    return facts


def _configuration_path(directory: Directory) -> str:
    wanted = directory.schema_path
    if wanted:
        if wanted not in directory.documents:
            raise ParseError(NO_CONFIG, f"the model has no {wanted}, which storage.schemaPath names")
        return wanted
    config = directory.document(_CONFIG)
    if _PIPELINE in directory.documents and not ("model_type" in config or "architectures" in config):
        return _PIPELINE
    for path in (_CONFIG, _OLD_SENTENCE_CONFIG):
        if path in directory.documents:
            return path
    return ""


def _is_of_another_format(directory: Directory, path: str) -> bool:
    """Whether what stands in config.json is not what the directory is: nothing, or a hint beside other weights."""
    config = directory.document(path)
    if not path or (directory.ggufs and "architectures" not in config):
        return True
    # Trainers leave the configuration of the base model beside an adapter.
    weights = (name for name in directory.sizes if "/" not in name and is_weight_file(name))
    return "adapter_config.json" in directory.documents and all(is_adapter_file(name) for name in weights)


def _model(directory: Directory, path: str, c: Section) -> ModelFacts:
    diffusion = bool(c.text("_class_name"))
    weights = weights_in(directory, path.rpartition("/")[0])
    if not weights.files and path == directory.schema_path:
        weights = weights_in(directory)
    facts = ModelFacts(
        model_type=c.model_type,
        architecture=c.architecture,
        framework="diffusers" if diffusion else "transformers",
        framework_version=_first_text(c, "_diffusers_version" if diffusion else "transformers_version"),
        dtype="" if diffusion else dtype_of(c),
        vocabulary_size=_first_integer(c, "vocab_size", "padded_vocab_size"),
    )
    scheme = scheme_of(c, Section(directory.document(_SIDE)), _beside(directory))
    if scheme.stated is not None:
        facts.quantization.CopyFrom(scheme.stated)
    if not diffusion:
        context = context_of(c)
        facts.context_length, facts.usable_context_length = context.stated, context.usable
        limit = _sentence_limit(directory)
        if limit:
            facts.usable_context_length = min(context.usable or limit, limit)
    if diffusion:
        capabilities = pipeline_capabilities(c.architecture)
    else:
        capabilities = capabilities_of(c, catalogue.family_of(c), directory)
    facts.capabilities.extend(capabilities)
    facts.api_capabilities.extend(api_capabilities(capabilities))
    _count(facts, directory, c, weights, scheme)
    return facts


def _sentence_limit(directory: Directory) -> int:
    """Where sentence-transformers cut a text, in tokens; zero when they do not say."""
    for path in _SENTENCE_LIMITS:
        limit = directory.document(path).get("max_seq_length")
        if isinstance(limit, int) and not isinstance(limit, bool) and 0 < limit < 1 << 31:
            return limit
    return 0


def _beside(directory: Directory) -> Section:
    """What tools write about quantization into a file of its own."""
    for path in _BESIDE:
        if directory.document(path):
            return Section(directory.document(path))
    return Section({})


def _count(facts: ModelFacts, directory: Directory, c: Section, weights: Weights, scheme: Scheme) -> None:
    page = look_up(c)
    counted = _counted(directory, c, weights, scheme)
    facts.modules.extend(_modules(directory, weights))
    verdict = decide(c, page, weights, counted, facts.dtype, scheme.stated is not None, scheme.hint.bits)
    state_count(facts.parameters, verdict, directory.warnings)
    if counted is not None:
        state_stored(facts, counted)
    network = page.network
    likely = network.total if network is not None else verdict.guess.likely if verdict.guess is not None else None
    if likely is not None:
        _state_active(facts, counted, likely, page.is_proven)
        _state_cache(facts, c, likely, page.is_proven, scheme.cache_bits)
    _state_bytes(facts, directory, weights)
    if network is not None and (counted is None or not counted.prediction):
        facts.prediction_parameters = network.prediction
    experts = network.experts if network is not None else None
    facts.parameter_size = _size(facts.parameters, c, experts)


def _counted(directory: Directory, c: Section, weights: Weights, scheme: Scheme) -> Counted | None:
    if weights.missing:
        if directory.headers:
            directory.warnings.append(
                f"{len(weights.missing)} weight files are missing, the first is {weights.missing[0]}."
            )
        return None
    if not weights.files:
        return None
    tensors, repeated = tensors_of(directory, weights.files)
    return count_tensors(tensors, hint_for=scheme.hint_for, tied=_tied(c), layers=_layers(c), repeated=repeated)


def _modules(directory: Directory, weights: Weights) -> list[LinearModule]:
    """The linear modules, if all weights are there and each once: parts of a matrix have other widths."""
    if weights.missing or not weights.files:
        return []
    tensors, repeated = tensors_of(directory, weights.files)
    return [] if repeated else modules_of_model(tensors)


def _state_active(facts: ModelFacts, counted: Counted | None, likely: Tally, is_proven: bool) -> None:
    total = facts.parameters
    if not likely.idle or not total.count:
        return
    # A share of what is stored, since the stored experts may be fewer than the configuration's.
    idle = likely.idle if counted is None else likely.idle * total.count // likely.parameters
    active = facts.active_parameters
    active.count, active.source = max(total.count - idle, 0), total.source
    active.exact = total.exact and (is_proven or total.count == likely.parameters)
    if not active.exact:
        low, high = total.minimum or total.count, total.maximum or total.count
        active.minimum = active.count * low // (2 * total.count)
        active.maximum = min(active.count * high * 2 // total.count, high)


def _state_cache(facts: ModelFacts, c: Section, likely: Tally, is_proven: bool, cache_bits: int) -> None:
    """Bytes that a token adds to the cache: exact when the page is proven and nothing is left to the server."""
    facts.kv_cache_bytes_per_token = likely.cached * (cache_bits or bits_of(facts.dtype)) // 8
    if is_proven and (cache_bits or facts.dtype) and not _has_windows(c):
        facts.kv_cache_certainty = CERTAINTY_EXACT
    elif likely.cached:
        facts.kv_cache_certainty = CERTAINTY_ESTIMATED


def _has_windows(c: Section) -> bool:
    """Whether some layers forget what is behind a window, so that a server need not keep all."""
    for section in text_sections(c):
        windows = section.stated_integer("sliding_window", "attention_chunk_size", "local_attention")
        if windows and section.flag("use_sliding_window", default=True):
            return True
        if "sliding_attention" in section.items("layer_types"):
            return True
    return False


def _state_bytes(facts: ModelFacts, directory: Directory, weights: Weights) -> None:
    """Bytes of weights that no header tells: the index's, or the files' own, or as many as the count takes."""
    if facts.weight_bytes:
        return
    held = weights.index_bytes or weight_file_bytes(directory)
    if not held and facts.parameters.count and (facts.quantization.bits or not facts.HasField("quantization")):
        held = facts.parameters.count * (facts.quantization.bits or bits_of(facts.dtype)) // 8
    if held:
        facts.weight_bytes, facts.weight_bytes_certainty = held, CERTAINTY_ESTIMATED


def _pipeline(directory: Directory, c: Section) -> ModelFacts:
    """A pipeline of diffusers: each entry of model_index.json is a folder, a library and a class."""
    facts = ModelFacts(
        architecture=c.architecture,
        framework="diffusers",
        framework_version=c.text("_diffusers_version"),
    )
    capabilities = pipeline_capabilities(c.architecture, (_component_class(entry) for entry in c.values.values()))
    facts.capabilities.extend(capabilities)
    facts.api_capabilities.extend(api_capabilities(capabilities))
    counts: list[Counted] = []
    incomplete = []
    for name, entry in list(c.values.items())[:_MAX_COMPONENTS]:
        class_name = _component_class(entry)
        if not class_name or f"{name}/{_CONFIG}" not in directory.documents:
            if class_name and not class_name.endswith(
                ("Scheduler", "Tokenizer", "TokenizerFast", "Processor", "Extractor")
            ):
                incomplete.append(name)
            continue
        component, counted = _component(directory, facts, name, class_name)
        facts.components.append(component)
        if counted is not None:
            counts.append(counted)
    if counts and len(counts) == len(facts.components):
        state_stored(facts, merge(counts))
    _sum_components(facts)
    if incomplete:
        directory.warnings.append(f"Parts without a configuration are not counted: {', '.join(incomplete)[:300]}.")
        facts.parameters.exact = False
    facts.parameter_size = _size(facts.parameters, c, None)
    return facts


def _component(directory: Directory, facts: ModelFacts, name: str, class_name: str) -> tuple[Component, Counted | None]:
    c = Section(directory.document(f"{name}/{_CONFIG}"))
    scheme = scheme_of(c, Section({}), Section({}))
    if scheme.stated is not None and not facts.HasField("quantization"):
        facts.quantization.CopyFrom(scheme.stated)
    weights = weights_in(directory, name)
    counted = _counted(directory, c, weights, scheme)
    stated = c.text("_class_name") or class_name
    page = look_up(c, stated)
    if page.network is None and stated != class_name:
        page = look_up(c, class_name)
    verdict = decide(c, page, weights, counted, dtype_of(c), scheme.stated is not None, scheme.hint.bits)
    component = Component(name=name, architecture=class_name)
    if verdict.count is not None:
        component.parameters.CopyFrom(verdict.count)
        if not verdict.count.exact:
            directory.warnings.append(f"The number of parameters is estimated: {name}: {verdict.why}.")
    return component, counted


def _component_class(entry: object) -> str:
    if isinstance(entry, list) and len(entry) >= 2 and isinstance(entry[0], str) and isinstance(entry[1], str):
        return entry[1]
    return ""


def _sum_components(facts: ModelFacts) -> None:
    counts = [component.parameters for component in facts.components if component.parameters.count]
    if not counts:
        return
    exact = len(counts) == len(facts.components) and all(count.exact for count in counts)
    facts.parameters.count = sum(count.count for count in counts)
    facts.parameters.exact = exact
    # The least certain source is that of the sum.
    facts.parameters.source = max(count.source for count in counts)
    if not exact:
        facts.parameters.minimum = sum(count.minimum or count.count for count in counts)
        facts.parameters.maximum = sum(count.maximum or count.count for count in counts)


def _size(parameters: ParameterCount, c: Section, experts: tuple[int, int] | None) -> str:
    """The short name of a count, or "" where its range is too wide: the name goes into specs, without the range."""
    if not parameters.exact and parameters.maximum > _WIDEST * parameters.minimum:
        return ""
    return size_name(parameters.count, c.text("_name_or_path"), experts)


def _first_text(c: Section, name: str) -> str:
    return next((section.text(name) for section in text_sections(c) if section.text(name)), "")


def _first_integer(c: Section, *names: str) -> int:
    for section in text_sections(c):
        found = section.stated_integer(*names)
        if found:
            return found
    return 0


def _tied(c: Section) -> bool:
    return any(section.flag("tie_word_embeddings") for section in text_sections(c))


def _layers(c: Section) -> int:
    # Only configurations that state further layers have them; elsewhere every layer is the model's own.
    for section in text_sections(c):
        if section.stated_integer("num_nextn_predict_layers"):
            return section.stated_integer("num_hidden_layers") or 0
    return 0

"""Turns a model directory into facts: finds its configuration, asks each module for its part, and names the sources.

The one entry point of the pure core. Must not do I/O.
"""

from collections.abc import Iterable

from ome.parser.v1.parser_pb2 import (
    COUNT_SOURCE_ESTIMATE,
    COUNT_SOURCE_FORMULA,
    COUNT_SOURCE_HEADERS,
    COUNT_SOURCE_INDEX,
    Component,
    ModelFacts,
    ParameterCount,
)
from services.parser import catalogue
from services.parser.capabilities import api_capabilities, capabilities_of, pipeline_capabilities
from services.parser.context import context_of, text_sections
from services.parser.counting import Counted, count_tensors, merge
from services.parser.errors import NO_CONFIG, ParseError, malformed
from services.parser.estimate import estimate
from services.parser.intake import Directory, take_in
from services.parser.licence import licence_of
from services.parser.naming import size_name
from services.parser.network import Network
from services.parser.precision import bits_of, dtype_of, stored_dtype
from services.parser.quantization import cache_bits, quantization_of
from services.parser.section import Section, Undescribed
from services.parser.tally import Tally
from services.parser.weights import Weights, format_of, tensors_of, weights_in

_CONFIG = "config.json"
_PIPELINE = "model_index.json"
_SIDE = "hf_quant_config.json"
# Before sentence-transformers 2 the transformer had a folder of its own.
_OLD_SENTENCE_CONFIG = "0_Transformer/config.json"
_MAX_COMPONENTS = 64
_WIDEST = 1.25
_MAX_WARNINGS = 50
# The format of safetensors has had one version, and runtimes are chosen by this way of writing it.
_FORMAT_VERSIONS = {"safetensors": "1.0.0"}
# A thousand times the largest network there is; more means nonsense in the configuration.
_MOST_PARAMETERS = 10**15


def parse_files(files: Iterable[tuple[str, int, bytes]], schema_path: str = "") -> ModelFacts:
    """The facts of whole files: path, size in bytes, and the bytes that are sent of it."""
    return parse_directory(take_in(files, schema_path))


def parse_directory(directory: Directory) -> ModelFacts:
    """The facts of a model directory. Raises ParseError."""
    path = _configuration_path(directory)
    c = Section(directory.documents[path])
    try:
        facts = _pipeline(directory, c) if path == _PIPELINE else _model(directory, path, c)
    except Undescribed as error:
        raise malformed(path, str(error)) from error
    facts.format = format_of(directory)
    facts.format_version = _FORMAT_VERSIONS.get(facts.format, "")
    facts.license = licence_of(directory.card) or c.text("license")[:100]
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
    raise ParseError(NO_CONFIG, "the model has neither config.json nor model_index.json")


def _model(directory: Directory, path: str, c: Section) -> ModelFacts:
    diffusion = bool(c.text("_class_name"))
    side = Section(directory.document(_SIDE))
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
    quantization = quantization_of(c, side)
    if quantization is not None:
        facts.quantization.CopyFrom(quantization)
    if not diffusion:
        context = context_of(c)
        facts.context_length, facts.usable_context_length = context.stated, context.usable
    capabilities = (
        pipeline_capabilities(c.architecture) if diffusion else capabilities_of(c, catalogue.family_of(c), directory)
    )
    facts.capabilities.extend(capabilities)
    facts.api_capabilities.extend(api_capabilities(capabilities))
    _count(facts, directory, c, weights, cache_bits(c, side))
    return facts


def _count(facts: ModelFacts, directory: Directory, c: Section, weights: Weights, kv_bits: int) -> None:
    network, why = _describe(c)
    counted = _counted(directory, c, weights, facts)
    parameters, likely = _parameters(directory, c, weights, counted, network, why, facts.dtype)
    if parameters is not None:
        facts.parameters.CopyFrom(parameters)
    if network is not None:
        likely = network.total
    elif counted is None and parameters is None:
        directory.warnings.append(f"The number of parameters is not known: {why}.")
    if counted is not None:
        _state_stored(facts, counted)
    if likely is not None:
        _state_derived(facts, counted, likely, kv_bits)
    if network is not None and (counted is None or not counted.prediction):
        facts.prediction_parameters = network.prediction
    experts = network.experts if network is not None else None
    facts.parameter_size = _size(facts.parameters, c, experts)


def _describe(c: Section, model_type: str = "", architecture: str = "") -> tuple[Network | None, str]:
    try:
        network = catalogue.describe(c, model_type, architecture)
    except Undescribed as error:
        return None, str(error)
    except (ArithmeticError, ValueError, IndexError):
        # Heads of zero, steps of zero, lists of other lengths: descriptions divide and pair without asking.
        return None, "the configuration states sizes that no network has"
    if not 0 < network.total.parameters <= _MOST_PARAMETERS or not 0 <= network.prediction <= _MOST_PARAMETERS:
        return None, "the configuration states sizes that no network has"
    return network, network.why


def _counted(directory: Directory, c: Section, weights: Weights, facts: ModelFacts) -> Counted | None:
    if weights.missing:
        if directory.headers:
            directory.warnings.append(
                f"{len(weights.missing)} weight files are missing, the first is {weights.missing[0]}."
            )
        return None
    if not weights.files:
        return None
    return count_tensors(
        tensors_of(directory, weights.files),
        packed_bits=facts.quantization.bits or 4,
        tied=_tied(c),
        layers=_layers(c),
    )


def _parameters(
    directory: Directory,
    c: Section,
    weights: Weights,
    counted: Counted | None,
    network: Network | None,
    why: str,
    dtype: str,
) -> tuple[ParameterCount | None, Tally | None]:
    if counted is not None:
        return ParameterCount(count=counted.parameters, source=COUNT_SOURCE_HEADERS, exact=True), None
    if network is not None:
        return _from_network(directory, network), None
    if weights.index_parameters:
        return ParameterCount(count=weights.index_parameters, source=COUNT_SOURCE_INDEX, exact=True), None
    directory.warnings.append(f"The number of parameters is estimated: {why}.")
    try:
        guess = estimate(c)
        plausible = guess.largest <= _MOST_PARAMETERS
    except (Undescribed, ArithmeticError):
        plausible = False
    if not plausible:
        directory.warnings.pop()
        return _from_index(weights, dtype), None
    count = ParameterCount(
        count=guess.likely.parameters,
        source=COUNT_SOURCE_ESTIMATE,
        minimum=guess.smallest,
        maximum=guess.largest,
    )
    return _from_index(weights, dtype) or count, guess.likely


def _from_network(directory: Directory, network: Network) -> ParameterCount:
    total = network.total.parameters
    if network.exact:
        return ParameterCount(count=total, source=COUNT_SOURCE_FORMULA, exact=True)
    directory.warnings.append(f"The number of parameters is estimated: {network.why}.")
    return ParameterCount(
        count=total,
        source=COUNT_SOURCE_ESTIMATE,
        minimum=total * 95 // 100,
        maximum=total * 105 // 100,
    )


def _from_index(weights: Weights, dtype: str) -> ParameterCount | None:
    if not weights.index_bytes or not dtype:
        return None
    count = weights.index_bytes * 8 // bits_of(dtype)
    # Some tensors may be stored in twice or half the stated precision.
    return ParameterCount(count=count, source=COUNT_SOURCE_INDEX, minimum=count // 2, maximum=count * 2)


def _state_stored(facts: ModelFacts, counted: Counted) -> None:
    facts.bytes_by_dtype.update(counted.bytes_by_dtype)
    facts.weight_bytes = counted.weight_bytes
    facts.prediction_parameters = counted.prediction
    if not facts.dtype:
        facts.dtype = stored_dtype(dict(counted.bytes_by_dtype))


def _state_derived(facts: ModelFacts, counted: Counted | None, likely: Tally, kv_bits: int) -> None:
    bits = bits_of(facts.dtype)
    if likely.idle:
        total = facts.parameters.count
        # A share of what is stored, since the stored experts may be fewer than the configuration's.
        idle = likely.idle if counted is None else likely.idle * counted.parameters // likely.parameters
        facts.active_parameters.CopyFrom(facts.parameters)
        facts.active_parameters.ClearField("minimum")
        facts.active_parameters.ClearField("maximum")
        facts.active_parameters.count = max(total - idle, 0)
        if not facts.parameters.exact:
            spread = facts.active_parameters.count
            facts.active_parameters.minimum, facts.active_parameters.maximum = spread * 4 // 5, spread * 6 // 5
    if likely.cached:
        facts.kv_cache_bytes_per_token = likely.cached * (kv_bits or bits) // 8
    if not facts.weight_bytes and facts.parameters.count:
        stored_bits = facts.quantization.bits or bits
        facts.weight_bytes = facts.parameters.count * stored_bits // 8


def _pipeline(directory: Directory, c: Section) -> ModelFacts:
    """A pipeline of diffusers: each entry of model_index.json is a folder, a library and a class."""
    facts = ModelFacts(
        architecture=c.architecture,
        framework="diffusers",
        framework_version=c.text("_diffusers_version"),
    )
    capabilities = pipeline_capabilities(c.architecture)
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
        _state_stored(facts, merge(counts))
    _sum_components(facts)
    if incomplete:
        directory.warnings.append(f"Parts without a configuration are not counted: {', '.join(incomplete)[:300]}.")
        facts.parameters.exact = False
    facts.parameter_size = _size(facts.parameters, c, None)
    return facts


def _component(directory: Directory, facts: ModelFacts, name: str, class_name: str) -> tuple[Component, Counted | None]:
    part = ModelFacts()
    c = Section(directory.document(f"{name}/{_CONFIG}"))
    quantization = quantization_of(c, Section({}))
    if quantization is not None:
        part.quantization.CopyFrom(quantization)
        if not facts.HasField("quantization"):
            facts.quantization.CopyFrom(quantization)
    weights = weights_in(directory, name)
    counted = _counted(directory, c, weights, part)
    stated = c.text("_class_name") or class_name
    network, why = _describe(c, architecture=stated)
    if counted is None and network is None and stated != class_name:
        network, why = _describe(c, architecture=class_name)
    parameters, _ = _parameters(directory, c, weights, counted, network, f"{name}: {why}", dtype_of(c))
    component = Component(name=name, architecture=class_name, parameters=parameters)
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

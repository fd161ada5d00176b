"""Decides how many parameters a model has, from its page, its headers and its index, and whether the number is proven.

It is when the page knows the class and all keys that matter, or when two of the sources agree; otherwise it is an
estimate with a range that holds all that the sources allow. Must not read files.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ome.parser.v1.parser_pb2 import (
    CERTAINTY_EXACT,
    COUNT_SOURCE_ESTIMATE,
    COUNT_SOURCE_FORMULA,
    COUNT_SOURCE_HEADERS,
    COUNT_SOURCE_INDEX,
    CountSource,
    ModelFacts,
    ParameterCount,
)
from services.parser import catalogue
from services.parser.counting import Counted
from services.parser.estimate import Estimate, estimate, sections_size
from services.parser.network import Network
from services.parser.precision import bits_of, stored_dtype
from services.parser.section import Section, Undescribed
from services.parser.weights import Weights

# A thousand times the largest network there is; more means nonsense in the configuration.
MOST_PARAMETERS = 10**15
# The share of parameters that quantizers' own tensors, of names that are not known, may seem to add.
_AIDS = 0.02
_NONSENSE = "the configuration states sizes that no network has"


@dataclass(frozen=True)
class Page:
    """What the catalogue says about a configuration."""

    network: Network | None = None
    # Why there is no network.
    why: str = ""
    # Why the network may be another than the configuration means.
    doubts: Sequence[str] = ()

    @property
    def is_proven(self) -> bool:
        """Whether the count follows from the configuration alone."""
        return self.network is not None and self.network.exact and not self.doubts

    @property
    def reason(self) -> str:
        """Why the count is no more than an estimate."""
        if self.network is None:
            return self.why
        return self.network.why if not self.network.exact else "; ".join(self.doubts)


@dataclass(frozen=True)
class Verdict:
    """A number of parameters with its certainty, if there is one, and what it rests on."""

    count: ParameterCount | None
    # Set when the number had to be guessed without a page.
    guess: Estimate | None = None
    why: str = ""


def look_up(c: Section, architecture: str = "") -> Page:
    """The page of a configuration. architecture is the class that builds it, where that is stated elsewhere."""
    # A reading of its own: what other modules ask of the configuration is no matter of its page.
    c = Section(c.values)
    try:
        network = catalogue.describe(c, "", architecture)
        doubts = catalogue.doubts_about(c, architecture)
    except Undescribed as error:
        return Page(why=str(error))
    except (ArithmeticError, ValueError, IndexError):
        # Heads of zero, steps of zero, lists of other lengths: descriptions divide and pair without asking.
        return Page(why=_NONSENSE)
    if not 0 < network.total.parameters <= MOST_PARAMETERS or not 0 <= network.prediction <= MOST_PARAMETERS:
        return Page(why=_NONSENSE)
    return Page(network, "", doubts)


def decide(
    c: Section, page: Page, weights: Weights, counted: Counted | None, dtype: str, quantized: bool, bits: int
) -> Verdict:
    """The number of parameters of a model of configuration c; bits are those of quantized weights, if stated."""
    if counted is not None:
        return _from_headers(page, weights, counted)
    if page.network is not None:
        return _from_page(c, page, weights, dtype, quantized)
    guess = _guess(c)
    count = _from_index(weights, dtype, quantized, bits)
    if count is None and guess is not None:
        count = _estimated(guess.likely.parameters, guess.smallest, guess.largest)
    return Verdict(count, guess, page.why)


def _from_headers(page: Page, weights: Weights, counted: Counted) -> Verdict:
    """Headers say what is stored; what it stands for is proven by a page or an index that says the same."""
    network = page.network
    stored = counted.parameters
    if network is not None and counted.lowest <= stored:
        total = network.total.parameters
        for held in (stored, stored - counted.head):
            if held == total and counted.is_decoded:
                return Verdict(ParameterCount(count=total, source=COUNT_SOURCE_HEADERS, exact=True))
        # Quantizers keep small tensors of their own beside the weights, under names without end.
        aids = counted.is_decoded and counted.quantized and total <= stored <= total * (1 + _AIDS)
        if aids and page.is_proven:
            return Verdict(ParameterCount(count=total, source=COUNT_SOURCE_FORMULA, exact=True))
        if not counted.is_decoded and counted.lowest - counted.head <= total <= counted.highest:
            # What is stored allows the page's number, and tells no better one.
            if page.is_proven:
                return Verdict(ParameterCount(count=total, source=COUNT_SOURCE_FORMULA, exact=True))
            low, high = _range_of(page)
            low, high = max(low, counted.lowest - counted.head), min(high, counted.highest)
            return Verdict(_estimated(total, low, high), why=page.reason)
    if counted.is_decoded and stored == weights.index_parameters:
        return Verdict(ParameterCount(count=stored, source=COUNT_SOURCE_HEADERS, exact=True))
    floats = counted.is_decoded and not counted.quantized
    if floats and network is None and weights.index_bytes and weights.index_bytes == counted.weight_bytes:
        return Verdict(ParameterCount(count=stored, source=COUNT_SOURCE_HEADERS, exact=True))
    low, high = counted.lowest - counted.head, counted.highest
    why = "the headers of the weights hold what no other file confirms"
    if network is not None:
        low, high = min(low, network.total.parameters), max(high, network.total.parameters)
        why = f"the weights hold {stored} parameters where the configuration describes {network.total.parameters}"
    elif not counted.is_decoded:
        why = "the weights are packed in a way that is not known"
    elif counted.quantized:
        # Shapes confirm one another, but a part may be packed twice over.
        low, high = low * 3 // 4, high * 4 // 3
    return Verdict(_estimated(stored, low, high, COUNT_SOURCE_HEADERS), why=why)


def _from_page(c: Section, page: Page, weights: Weights, dtype: str, quantized: bool) -> Verdict:
    assert page.network is not None
    total, prediction = page.network.total.parameters, page.network.prediction
    expected = bits_of(dtype) // 8 if dtype and not quantized else 0
    stated = weights.index_bytes // expected if expected else 0
    agrees = bool(stated) and weights.index_bytes in (total * expected, (total + prediction) * expected)
    if agrees or total == weights.index_parameters:
        return Verdict(ParameterCount(count=total, source=COUNT_SOURCE_FORMULA, exact=True))
    # Buffers, or a part in another precision, make up a little; a head that is stored twice makes up more.
    head = max((part.parameters for name, part in page.network.parts.items() if name == "embeddings"), default=0)
    differs = bool(stated) and not total * 0.97 <= stated <= (total + prediction + head) * 1.03
    if page.is_proven and not differs:
        return Verdict(ParameterCount(count=total, source=COUNT_SOURCE_FORMULA, exact=True))
    low, high = _range_of(page)
    if differs:
        low, high = min(low, stated // 2, total), max(high, stated * 2, total)
        why = f"the index states {weights.index_bytes} bytes, which are not those of {total} parameters"
        return Verdict(_estimated(total, low, high), why=why)
    largest = sections_size(c) if page.doubts else 0
    return Verdict(_estimated(total, low, high + largest), why=page.reason)


def _range_of(page: Page) -> tuple[int, int]:
    """How far off the page's number may be, by what is in doubt."""
    assert page.network is not None
    total = page.network.total.parameters
    tables = sum(part.parameters for name, part in page.network.parts.items() if name in ("embeddings", "head"))
    if not page.doubts:
        return total * 9 // 10, total * 11 // 10
    if list(page.doubts) == [catalogue.NO_CLASS]:
        # Only the head is in doubt.
        return max(total - tables, total // 4) * 19 // 20, (total + tables) * 21 // 20 + 10**6
    # A draft model has the embeddings of another model; further layers and blocks rarely double what is described.
    return max((total - tables) // 2, total // 10), total * 5 // 2


def _guess(c: Section) -> Estimate | None:
    try:
        guess = estimate(c)
    except (Undescribed, ArithmeticError):
        return None
    return guess if guess.largest <= MOST_PARAMETERS else None


def _from_index(weights: Weights, dtype: str, quantized: bool, bits: int) -> ParameterCount | None:
    """What an index says without a page to confirm it."""
    if weights.index_parameters:
        # A writer that does not know a packing counts its words.
        count, most = weights.index_parameters, 8 if quantized else 2
        return ParameterCount(count=count, source=COUNT_SOURCE_INDEX, minimum=count // 2, maximum=count * most)
    if not weights.index_bytes or not (dtype or bits):
        return None
    held = weights.index_bytes * 8
    if quantized:
        count = held // (bits or 8)
        most = held // min(bits or 2, 2)
        return ParameterCount(count=count, source=COUNT_SOURCE_INDEX, minimum=held // 32, maximum=most)
    count = held // bits_of(dtype)
    # Some tensors may be stored in twice or half the stated precision.
    return ParameterCount(count=count, source=COUNT_SOURCE_INDEX, minimum=count // 2, maximum=count * 2)


def _estimated(count: int, low: int, high: int, source: CountSource = COUNT_SOURCE_ESTIMATE) -> ParameterCount:
    low = max(min(low, count), 1)
    return ParameterCount(count=count, source=source, minimum=low, maximum=max(high, count))


def state_count(count: ParameterCount, verdict: Verdict, warnings: list[str]) -> None:
    """Tell a count, or in the warnings why it is not known or not exact."""
    if verdict.count is None:
        warnings.append(f"The number of parameters is not known: {verdict.why}.")
        return
    count.CopyFrom(verdict.count)
    if not count.exact:
        warnings.append(f"The number of parameters is estimated: {verdict.why}.")


def state_stored(facts: ModelFacts, counted: Counted) -> None:
    """Tell what the headers of the weights say."""
    facts.bytes_by_dtype.update(counted.bytes_by_dtype)
    facts.weight_bytes, facts.weight_bytes_certainty = counted.weight_bytes, CERTAINTY_EXACT
    facts.prediction_parameters = counted.prediction
    if not facts.dtype:
        facts.dtype = stored_dtype(dict(counted.bytes_by_dtype))

"""Arithmetic of network parts: what a linear layer, a norm, an attention or a mixture of experts holds.

Families compose these into whole networks. Must not read configurations.
"""

from dataclasses import dataclass


# Not frozen, which makes each of the thousands that a description adds up take four times as long to make.
@dataclass(slots=True)
class Tally:
    """Numbers of one part of a network; parts add up, and repeat by multiplication. Nobody changes one."""

    # Parameters, tied tensors once.
    parameters: int = 0
    # Those of routed experts that one token does not pass through.
    idle: int = 0
    # Numbers that one token adds to the key-value cache.
    cached: int = 0

    def __add__(self, other: "Tally | int") -> "Tally":
        if isinstance(other, int):
            return Tally(self.parameters + other, self.idle, self.cached)
        return Tally(self.parameters + other.parameters, self.idle + other.idle, self.cached + other.cached)

    def __radd__(self, other: int) -> "Tally":
        return self + other

    def __rmul__(self, times: int) -> "Tally":
        return Tally(times * self.parameters, times * self.idle, times * self.cached)

    @property
    def active(self) -> int:
        """Parameters that one token passes through."""
        return self.parameters - self.idle


def linear(inputs: int, outputs: int, bias: bool = False) -> Tally:
    """A matrix with or without bias; a 1×1 convolution is one too."""
    return Tally(inputs * outputs + (outputs if bias else 0))


def convolution(inputs: int, outputs: int, *kernel: int, bias: bool = True, groups: int = 1) -> Tally:
    """A convolution with a kernel of any number of dimensions."""
    size = 1
    for extent in kernel:
        size *= extent
    return Tally(inputs // groups * outputs * size + (outputs if bias else 0))


def embedding(entries: int, width: int) -> Tally:
    """A table of vectors."""
    return Tally(entries * width)


def norm(width: int, bias: bool = False) -> Tally:
    """RMSNorm, or LayerNorm and GroupNorm with their bias."""
    return Tally(2 * width if bias else width)


def attention(
    width: int,
    heads: int,
    kv_heads: int | None = None,
    head_width: int | None = None,
    bias: bool = False,
    output_bias: bool | None = None,
    key_bias: bool | None = None,
    inputs: int | None = None,
) -> Tally:
    """Query, key, value and output projections, grouped queries included.

    bias is that of query, key and value; the output's and the key's follow it unless given. inputs is the width of what
    keys and values are made of in cross-attention.
    """
    kv_heads = heads if kv_heads is None else kv_heads
    head_width = width // heads if head_width is None else head_width
    output_bias = bias if output_bias is None else output_bias
    key_bias = bias if key_bias is None else key_bias
    queries, keys = heads * head_width, kv_heads * head_width
    source = width if inputs is None else inputs
    projections = linear(width, queries, bias) + linear(source, keys, key_bias) + linear(source, keys, bias)
    # What crosses from another network is computed once, not per token.
    cached = 2 * keys if inputs is None else 0
    return projections + linear(queries, width, output_bias) + Tally(cached=cached)


def gated(width: int, inner: int, bias: bool = False) -> Tally:
    """A feed-forward block with gate, up and down projections."""
    return linear(width, inner, bias) + linear(width, inner, bias) + linear(inner, width, bias)


def plain(width: int, inner: int, bias: bool = True) -> Tally:
    """A feed-forward block with up and down projections."""
    return linear(width, inner, bias) + linear(inner, width, bias)


def experts(count: int, chosen: int, expert: Tally) -> Tally:
    """Routed experts, of which each token passes through the chosen number."""
    return Tally(count * expert.parameters, max(count - chosen, 0) * expert.parameters)


def uncached(part: Tally) -> Tally:
    """The same part in a network that keeps no key-value cache, such as an encoder."""
    return Tally(part.parameters, part.idle)

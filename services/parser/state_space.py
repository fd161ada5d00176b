"""The state-space mixers of Mamba and Mamba 2, which many hybrids put in place of attention."""

from services.parser.tally import Tally, convolution, linear, norm


def mamba(width: int, inner: int, state: int, rank: int, kernel: int, *, bias: bool, kernel_bias: bool) -> Tally:
    """Mamba: selective state of a diagonal matrix per channel. It keeps no cache that grows with tokens."""
    return (
        linear(width, 2 * inner, bias)
        + convolution(inner, inner, kernel, bias=kernel_bias, groups=inner)
        + linear(inner, rank + 2 * state)
        + linear(rank, inner, bias=True)
        + Tally(inner * state + inner)
        + linear(inner, width, bias)
    )


def mamba2(
    width: int, heads: int, head: int, state: int, groups: int, kernel: int, *, bias: bool, kernel_bias: bool
) -> Tally:
    """Mamba 2: one decay per head, a gated norm."""
    inner = heads * head
    mixed = inner + 2 * groups * state
    return (
        linear(width, inner + mixed + heads, bias)
        + convolution(mixed, mixed, kernel, bias=kernel_bias, groups=mixed)
        + Tally(3 * heads)
        + norm(inner)
        + linear(inner, width, bias)
    )


def gated_delta(width: int, key_heads: int, value_heads: int, key: int, value: int, kernel: int) -> Tally:
    """Gated DeltaNet of Qwen3-Next: queries, keys, values and a gate, a decay and a step per value head."""
    keys, values = key_heads * key, value_heads * value
    mixed = 2 * keys + values
    return (
        linear(width, mixed + values)
        + linear(width, 2 * value_heads)
        + convolution(mixed, mixed, kernel, bias=False, groups=mixed)
        + Tally(2 * value_heads)
        + norm(value)
        + linear(values, width)
    )

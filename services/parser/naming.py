"""Writes a number of parameters the way people do: "7B", "8x7B", "671B", "1.5B", "335M"."""

import re

_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(?:(\d{1,3})x)?(\d{1,4}(?:\.\d{1,2})?)([TBM])(?![A-Za-z0-9])", re.IGNORECASE)
_PLAUSIBLE = 0.2


def size_name(count: int, published_name: str = "", experts: tuple[int, int] | None = None) -> str:
    """A short name of a number of parameters.

    published_name is what the publisher calls the model: a size in it that fits the count is taken as it stands, since
    people round 70.6 billion down to "70B" and 6.7 billion up to "7B". experts, for models that are called "8x7B", is
    their number and the size of the model with one of them.
    """
    published = _published(count, published_name)
    if published or not count:
        return published
    if experts is None:
        return _computed(count)
    return f"{experts[0]}x{_computed(experts[1])}"


def _published(count: int, name: str) -> str:
    for experts, number, unit in _IN_NAME.findall(name[-200:]):
        scale = {"T": 10**12, "B": 10**9, "M": 10**6}[unit.upper()]
        size = float(number) * scale
        if experts:
            # The experts share attention and embeddings, so the whole is less than their product.
            if 0.6 * int(experts) * size <= count <= 1.05 * int(experts) * size:
                return f"{experts}x{number}{unit.upper()}"
        elif abs(size - count) <= _PLAUSIBLE * count:
            return f"{number}{unit.upper()}"
    return ""


def _computed(count: int) -> str:
    unit, letter = next(((unit, letter) for unit, letter in _UNITS if count >= unit), (1, ""))
    # 0.5B is how models from there on are called; smaller ones are counted in millions.
    if letter == "M" and count >= 480 * 10**6:
        unit, letter = 10**9, "B"
    value = count / unit
    if letter in ("B", "T") and value < 10:
        whole = int(value + 0.75) if value >= 5 else int(value)
        # Publishers leave out a fraction of up to a quarter: 8.03 and 3.21 billion are "8B" and "3B".
        tenths = f"{value:.1f}".removesuffix(".0")
        return f"{whole if whole >= 1 and -0.35 < value - whole <= 0.25 else tenths}{letter}"
    if letter in ("B", "T"):
        # From 10 billion on they cut: 70.6 billion is "70B", 405.9 billion is "405B".
        return f"{int(value + 0.05)}{letter}"
    return f"{round(value)}{letter}"

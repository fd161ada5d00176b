"""Puts figures into words: rates, durations and shares. Pure.

`words.js` writes those that change in the browser the same way, and sizes as `shown_size` does.
"""

from libs.artifact.sizes import shown_size

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def rate(bytes_per_second: int) -> str:
    """A rate, such as "120 MiB/s"; empty for none."""
    return f"{shown_size(bytes_per_second)}/s" if bytes_per_second > 0 else ""


def duration(seconds: float) -> str:
    """A time in its two greatest units, such as "3 min 20 s"."""
    left = max(0, round(seconds))
    if left < _MINUTE:
        return f"{left} s"
    for unit, word, smaller, smaller_word in ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min")):
        if left >= unit:
            return _two_units(left // unit, word, left % unit // smaller, smaller_word)
    return _two_units(left // _MINUTE, "min", left % _MINUTE, "s")


def percent(part: int, whole: int) -> int:
    """A share from 0 to 100; 100 only when nothing is missing."""
    if whole <= 0:
        return 0
    return 100 if part >= whole else max(0, min(99, 100 * part // whole))


def _two_units(large: int, word: str, small: int, smaller_word: str) -> str:
    return f"{large} {word} {small} {smaller_word}" if small else f"{large} {word}"

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
    if left < _HOUR:
        return f"{left // _MINUTE} min {left % _MINUTE} s"
    if left < _DAY:
        return f"{left // _HOUR} h {left % _HOUR // _MINUTE} min"
    return f"{left // _DAY} d {left % _DAY // _HOUR} h"


def percent(part: int, whole: int) -> int:
    """A share from 0 to 100; 100 only when nothing is missing."""
    if whole <= 0:
        return 0
    return 100 if part >= whole else max(0, min(99, 100 * part // whole))

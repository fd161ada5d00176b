"""How long something takes, as people say it: in the largest unit of which there are two."""

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))


def shown_duration(seconds: float) -> str:
    """A time such as "45 seconds", "2 minutes" or "3 days"."""
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return _count(round(seconds / size), unit)
    return _count(round(seconds), "second")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

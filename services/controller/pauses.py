"""How long to wait before something is tried or looked at again. Pure: equal on every replica and in every run."""

import hashlib


def spread(key: str, seconds: float) -> float:
    """Between half and all of a time, by a key: what became due together does not come together."""
    return seconds * (0.5 + hashlib.sha256(key.encode()).digest()[0] / 255 / 2)


def growing_pause(key: str, attempt: int, initial_seconds: float, max_seconds: float) -> float:
    """The pause after a failed attempt, of which the first is 1: twice as long each time, spread by key."""
    doublings = min(max(attempt - 1, 0), 30)
    return spread(f"{key}/{attempt}", min(max_seconds, initial_seconds * 2**doublings))

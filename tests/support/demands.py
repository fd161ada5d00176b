"""Demands for models, one after the other, and the hits that other orders of eviction would have with them."""

import random
from collections.abc import Iterator, Mapping, Sequence


def trace(seed: int, sizes: Mapping[str, int], count: int) -> Iterator[tuple[str, frozenset[str]]]:
    """Demands as in a cluster: some models are popular, popularity drifts, and the last two are still in use."""
    dice = random.Random(seed)
    names = sorted(sizes)
    recent: list[str] = []
    for number in range(count):
        rank = min(len(names) - 1, int(dice.paretovariate(1.1)) - 1)
        name = names[(rank + number * 10 // count) % len(names)]
        yield name, frozenset(recent[-2:])
        recent.append(name)


def plain_lru(sizes: Mapping[str, int], demands: Sequence[str], room: int) -> int:
    """Hits of a least-recently-used cache that knows neither of Pods nor of sizes."""
    held: dict[str, int] = {}
    hits = 0
    for name in demands:
        if name in held:
            hits += 1
            held[name] = held.pop(name)
            continue
        while sum(held.values()) + sizes[name] > room:
            del held[next(iter(held))]
        held[name] = sizes[name]
    return hits


def clairvoyant(sizes: Mapping[str, int], demands: Sequence[str], room: int) -> int:
    """Hits of one that knows the future: what is needed last goes first."""
    held: dict[str, int] = {}
    hits = 0
    for number, name in enumerate(demands):
        if name in held:
            hits += 1
            continue
        following = {each: demands.index(each, number) if each in demands[number:] else 10**9 for each in held}
        for victim in sorted(held, key=following.__getitem__, reverse=True):
            if sum(held.values()) + sizes[name] <= room:
                break
            del held[victim]
        held[name] = sizes[name]
    return hits

"""Names the linear modules of a model, or those that an adapter changes, with their widths, from the headers alone.

An adapter fits a base model only if the modules of both agree. A list is given only if it is complete: whoever reads
it may take a module that is not in it for one that does not exist. Pure.
"""

import re
from collections.abc import Iterator, Mapping

from ome.parser.v1.parser_pb2 import LinearModule
from services.parser.safetensors import Tensor

# Real models have a dozen; a list that would be longer is none.
_MOST = 64
# Of packed weights the shape tells nothing.
_PLAIN = frozenset(("F64", "F32", "F16", "BF16"))
# PEFT ends in ".lora_A.weight", with the name of the adapter between them in older versions; MLX in ".lora_a".
_LOW_RANK = ".lora_"
_SIDES = frozenset("ABab")
# What is longer or wider than this is no module, and the widths must go into a message.
_NAME_CHARACTERS, _WIDEST = 128, 2**31 - 1
_SUFFIX = ".weight"
_EXPERT = re.compile(r"\d+")


def modules_of_model(tensors: Mapping[str, Tensor]) -> list[LinearModule]:
    """The linear modules of a model with these tensors; empty if some are packed or there are too many."""
    found: set[tuple[str, int, int]] = set()
    for name, tensor in tensors.items():
        if tensor.dtype not in _PLAIN:
            return []
        if name.endswith(_SUFFIX) and len(tensor.shape) == 2:
            outputs, inputs = tensor.shape
            found.add((_last(name.removesuffix(_SUFFIX)), inputs, outputs))
            if len(found) > _MOST:
                return []
    return _listed(found)


def modules_of_adapter(tensors: Mapping[str, Tensor]) -> list[LinearModule]:
    """The modules that pairs of low-rank matrices change; empty if there are none, or too many."""
    found = set(_pairs(tensors))
    return _listed(found) if len(found) <= _MOST else []


def _pairs(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, int, int]]:
    sides: dict[tuple[str, str], tuple[int, ...]] = {}
    for name, tensor in tensors.items():
        # No pattern: an origin chooses the name, and could have one tried for hours.
        module, _, rest = name.rpartition(_LOW_RANK)
        side, *others = rest.split(".")
        if module and side in _SIDES and all(others) and len(tensor.shape) == 2:
            sides[module, side] = tensor.shape
    for (module, side), shape in sides.items():
        if side == "A" and (other := sides.get((module, "B"))) and shape[0] == other[1]:
            yield _last(module), shape[1], other[0]
        elif side == "a" and (other := sides.get((module, "b"))) and shape[1] == other[0]:
            yield _last(module), shape[0], other[1]


def _last(name: str) -> str:
    """The part of a name that says what a module is: that of an item of a list is the list's."""
    parts = name.split(".")
    while len(parts) > 1 and _EXPERT.fullmatch(parts[-1]):
        parts.pop()
    return parts[-1]


def _listed(found: set[tuple[str, int, int]]) -> list[LinearModule]:
    if any(len(name) > _NAME_CHARACTERS or max(inputs, outputs) > _WIDEST for name, inputs, outputs in found):
        return []
    return [LinearModule(name=name, inputs=inputs, outputs=outputs) for name, inputs, outputs in sorted(found)]

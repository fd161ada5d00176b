"""The client that blocks and the one that awaits are one to their users."""

import inspect

from ome_models import AsyncModels, Models


def methods(kind: type) -> dict[str, list[str]]:
    """The public methods of a class, with the names of their parameters."""
    named = ((name, value) for name, value in vars(kind).items() if not name.startswith("_"))
    return {name: list(inspect.signature(value).parameters) for name, value in named}


def test_both_flavours_have_the_same_methods() -> None:
    assert methods(Models) == methods(AsyncModels)

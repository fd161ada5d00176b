"""Reads the licence that a model card states in its front matter."""

import re

# https://huggingface.co/docs/hub/model-cards: YAML between two lines of dashes; the licence is one word of it.
_FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)\r?\n---", re.DOTALL)
_LICENCE = re.compile(r"^license(_name)?:[ \t]*[\"']?([\w.+-]{1,100})[\"']?[ \t]*$", re.MULTILINE)


def licence_of(card: str) -> str:
    """The licence's identifier, such as "apache-2.0", or ""; the name of a licence of its own where that is given."""
    front = _FRONT_MATTER.match(card)
    stated: dict[bool, str] = {}
    if front:
        stated = {bool(own): word for own, word in _LICENCE.findall(front[1])}
    return stated.get(True) or stated.get(False, "")

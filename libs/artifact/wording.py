"""Cleans what strangers say before it becomes a part of what we say: one line, printable, of a bounded length. Pure."""

MESSAGE_CHARACTERS = 1024
_CUT = "…"


def one_line(text: str, most_characters: int = MESSAGE_CHARACTERS) -> str:
    """The text without line breaks, control characters, lone surrogates and marks that turn the writing around.

    What is longer ends with an ellipsis. Idempotent.
    """
    if len(text) > most_characters:
        # Cleaning makes it shorter, at most: more than this of it is never shown.
        text = text[: 4 * most_characters]
    if not text.isprintable():
        text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return text if len(text) <= most_characters else text[: most_characters - len(_CUT)] + _CUT

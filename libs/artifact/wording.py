"""Cleans what strangers say before it becomes a part of what we say: one line, printable, of a bounded length. Pure."""

MESSAGE_CHARACTERS = 1024
# Of a path that is shown: a source may name files as long as a file system permits.
PATH_CHARACTERS = 120
_CUT = "…"


def shown_path(path: str, most_characters: int = PATH_CHARACTERS) -> str:
    """A path of a file as one_line cleans it; what is longer begins with an ellipsis, as its end tells it from others.

    Idempotent.
    """
    if len(path) > most_characters:
        path = _CUT + path[1 - most_characters :]
    return one_line(path, most_characters)


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

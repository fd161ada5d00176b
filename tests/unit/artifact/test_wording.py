"""What strangers say is one printable line of a bounded length, whatever they say."""

from hypothesis import given
from hypothesis import strategies as st

from libs.artifact.wording import MESSAGE_CHARACTERS, one_line, shown_path

ANYTHING = st.text(st.characters(codec=None, categories=None), max_size=3000)


def test_what_is_one_line_already_stays_as_it_is() -> None:
    assert one_line("hf://org/modèle: refused  twice") == "hf://org/modèle: refused  twice"


def test_line_breaks_controls_surrogates_and_marks_of_direction_are_blanks() -> None:
    assert one_line("a\r\n\x00b\x1b[31m\ud800\u202ec") == "a b [31m c"


def test_what_is_too_long_ends_with_an_ellipsis() -> None:
    assert one_line("x" * 100_000) == "x" * (MESSAGE_CHARACTERS - 1) + "…"


@given(ANYTHING, st.integers(1, 2000))
def test_whatever_is_said_is_printable_bounded_and_can_be_stored(text: str, most: int) -> None:
    cleaned = one_line(text, most)
    assert len(cleaned) <= most
    assert cleaned.isprintable()
    assert cleaned.encode().decode() == cleaned
    assert one_line(cleaned, most) == cleaned


def test_a_long_path_keeps_its_end_which_tells_it_from_others() -> None:
    assert shown_path("a/" * 5000 + "model-00001-of-00030.safetensors", 33) == "…model-00001-of-00030.safetensors"
    assert shown_path("unet/model.safetensors") == "unet/model.safetensors"


@given(ANYTHING, st.integers(2, 300))
def test_whatever_a_file_is_called_its_path_is_printable_bounded_and_can_be_stored(path: str, most: int) -> None:
    shown = shown_path(path, most)
    assert len(shown) <= most
    assert shown.isprintable()
    assert shown.encode().decode() == shown
    assert shown_path(shown, most) == shown

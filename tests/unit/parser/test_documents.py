"""Reading untrusted JSON."""

import pytest

from services.parser.documents import ITEMS, read_document, read_header_document
from services.parser.errors import ParseError

PATH = "config.json"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"3", "not a JSON object"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too long"),
        (b'{"hidden_size": 1, "hidden_size": 2}', "stated twice"),
        (b'{"a": {"b": 1, "b": [1]}}', "stated twice"),
    ],
)
def test_malformed_documents_are_refused_with_a_sentence(data: bytes, problem: str) -> None:
    with pytest.raises(ParseError) as refused:
        read_document(PATH, data, [])
    assert problem in refused.value.message
    assert refused.value.message.startswith(PATH)
    assert refused.value.reason == "ParseFailed"


def test_what_real_publishers_write_is_accepted_with_a_warning() -> None:
    warnings: list[str] = []
    document = read_document(PATH, b'\xef\xbb\xbf{"limit": [0.0, Infinity], "n": NaN, "d": 1, "d": 1}', warnings)
    assert document == {"limit": [0.0, None], "n": None, "d": 1}
    assert len(warnings) == 3


def test_a_list_is_kept_as_items() -> None:
    assert read_document("modules.json", b"[1, 2]", []) == {ITEMS: [1, 2]}


@pytest.mark.parametrize("data", [b"[]", b'{"a": NaN}', b"{"])
def test_formats_of_programs_are_read_header_documently(data: bytes) -> None:
    with pytest.raises(ParseError):
        read_header_document("model.safetensors", data)


def test_an_error_never_repeats_a_long_key() -> None:
    key = b"k" * 10_000
    with pytest.raises(ParseError) as refused:
        read_document(PATH, b'{"' + key + b'": 1, "' + key + b'": 2}', [])
    assert len(refused.value.message) < 200


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r'"\ud83d\ude00 \uD83D\uDE00"', "\U0001f600 \U0001f600"),
        (r'"\ud800 \udc00\ud800 \uD83D\u0041"', "\ufffd \ufffd\ufffd \ufffdA"),
        (r'"\\ud800 \\\\ud800"', r"\ud800 \\ud800"),
    ],
)
def test_half_a_character_is_read_as_the_one_that_stands_for_none(written: str, read: str) -> None:
    assert read_document("config.json", f'{{"a": {written}}}'.encode(), []) == {"a": read}

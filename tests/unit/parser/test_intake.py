"""What is taken in of a directory, and what is refused."""

import pytest

from libs.artifact.metadata_files import MAX_DOCUMENT_BYTES, MAX_FILES
from services.parser.errors import ParseError, TooLarge
from services.parser.intake import Intake, take_in
from tests.support.safetensors_files import json_file, weights_file

CONFIG = json_file("config.json", {"model_type": "llama"})


@pytest.mark.parametrize(
    "path",
    [
        "../config.json",
        "/etc/passwd",
        "a/../../b",
        "a//b",
        "./a",
        "a/.",
        "",
        "a\x00b",
        "a\nb",
        "a\\b",
        "x" * 2000,
        "a/",
    ],
)
def test_unsafe_names_are_refused(path: str) -> None:
    with pytest.raises(ParseError) as refused:
        take_in([(path, 0, b"")])
    assert refused.value.reason == "InvalidListing"


def test_an_unsafe_schema_path_is_refused() -> None:
    with pytest.raises(ParseError):
        Intake("../config.json")


def test_parts_of_a_file_are_joined() -> None:
    intake = Intake()
    path, size, data = CONFIG
    intake.add(path, size, data[:5])
    intake.add(path, size, data[5:])
    intake.add("model.bin", 10, b"")
    directory = intake.finish()
    assert directory.documents[path] == {"model_type": "llama"}
    assert directory.sizes == {path: size, "model.bin": 10}


def test_a_file_that_comes_twice_is_refused() -> None:
    with pytest.raises(ParseError, match="twice"):
        take_in([CONFIG, ("model.bin", 1, b""), CONFIG])


def test_a_file_with_two_sizes_is_refused() -> None:
    with pytest.raises(ParseError, match="two sizes"):
        take_in([CONFIG, (CONFIG[0], 99, b"")])


def test_a_document_that_was_not_sent_whole_is_refused() -> None:
    with pytest.raises(ParseError, match="were sent"):
        take_in([("config.json", 99, b"{}")])


def test_a_document_that_is_too_long_is_refused_as_it_arrives() -> None:
    intake = Intake()
    intake.add("config.json", 100 << 20, b" " * MAX_DOCUMENT_BYTES)
    with pytest.raises(TooLarge):
        intake.add("config.json", 100 << 20, b" ")


def test_a_long_but_real_configuration_is_accepted() -> None:
    config = json_file("config.json", {f"layer.{index}": {"quant_algo": "NVFP4"} for index in range(60_000)})
    assert config[1] > 2 << 20
    assert take_in([config]).documents


def test_too_many_files_are_refused() -> None:
    with pytest.raises(TooLarge):
        take_in((f"file-{index}", 1, b"") for index in range(MAX_FILES + 1))


def test_weights_are_never_kept() -> None:
    path, size, data = weights_file("model.safetensors", {"a": ("F32", (2,))})
    directory = take_in(
        [(path, size, data), ("pytorch_model.bin", 1 << 30, b"pickle" * 10), ("notes.txt", 5, b"notes")]
    )
    assert set(directory.headers) == {path}
    assert not directory.documents


def test_a_model_card_is_cut_rather_than_refused() -> None:
    intake = Intake()
    for _ in range(4):
        intake.add("README.md", 4 << 20, b"x" * (1 << 20))
    assert len(intake.finish().card) <= 2 << 20


def test_more_values_than_any_model_states_are_refused_before_they_are_read() -> None:
    many = json_file("config.json", {"a": [0] * 600_000})
    with pytest.raises(TooLarge, match="values"):
        take_in([many])


def test_an_index_of_more_files_than_any_model_has_is_refused() -> None:
    index = json_file("model.safetensors.index.json", {str(i): f"{i}.safetensors" for i in range(11_000)})
    with pytest.raises(TooLarge, match="names more"):
        take_in([index])


def test_an_index_states_its_shards_and_totals() -> None:
    document = {"metadata": {"total_size": 12.0, "total_parameters": 6}, "weight_map": {"a": "x.safetensors"}}
    index = take_in([json_file("model.safetensors.index.json", document)]).indexes["model.safetensors.index.json"]
    assert (index.shards, index.total_size, index.total_parameters) == (("x.safetensors",), 12, 6)

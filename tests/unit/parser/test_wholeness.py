"""Whether what is taken in of a directory is a whole model: the bytes, rather than the names, that tell."""

import io
import json
import zipfile

import pytest

from libs.artifact.archive_ends import ending_of
from ome.model.v1.model_pb2 import (
    FINDING_EMPTY_FILE,
    FINDING_ERROR_PAGE,
    FINDING_MISSING_FILES,
    FINDING_NO_TOKENIZER,
    FINDING_OTHER_FORMAT,
    FINDING_POINTER_FILE,
    FINDING_TRUNCATED_FILE,
    WHOLENESS_INCOMPLETE,
    WHOLENESS_UNSPECIFIED,
    WHOLENESS_WHOLE,
    Finding,
)
from ome.parser.v1.parser_pb2 import InspectionReport, ModelFacts
from services.parser.errors import ParseError
from services.parser.parsing import parse_files
from services.parser.report import MAX_BYTES, encode_report
from tests.support.gguf_files import F32, gguf_file
from tests.support.safetensors_files import json_file, weights_file

File = tuple[str, int, bytes]

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "torch_dtype": "bfloat16",
}
CONFIG = json_file("config.json", LLAMA)
TENSORS = {"model.embed_tokens.weight": ("BF16", (100, 16))}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 4976698672\n"
PAGE = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"
NAMES = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def index(*names: str, suffix: str = "safetensors") -> File:
    return json_file(f"model.{suffix}.index.json", {"metadata": {}, "weight_map": dict(enumerate(names))})


def facts(*files: File) -> ModelFacts:
    return parse_files([CONFIG, *files])


def findings(found: ModelFacts) -> list[Finding]:
    return [defect.finding for defect in found.completeness.defects]


def test_a_model_whose_headers_add_up_is_whole() -> None:
    found = facts(*(weights_file(name, {name: ("BF16", (4, 4))}) for name in NAMES), index(*NAMES))
    assert found.completeness.wholeness == WHOLENESS_WHOLE
    assert [remark.finding for remark in found.remarks] == [FINDING_NO_TOKENIZER]


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_file_that_an_index_names_is_missed(suffix: str) -> None:
    names = [name.replace("safetensors", suffix) for name in NAMES]
    held: File = weights_file(names[0], TENSORS) if suffix == "safetensors" else (names[0], 9000, b"")
    found = facts(held, index(*names, suffix=suffix))
    assert found.completeness.wholeness == WHOLENESS_INCOMPLETE
    assert findings(found) == [FINDING_MISSING_FILES]
    assert found.completeness.defects[0].files == [names[1]]
    assert found.model_type == "llama"


@pytest.mark.parametrize(
    ("file", "finding"),
    [
        (("model.safetensors", len(POINTER), POINTER[:8]), FINDING_POINTER_FILE),
        (("pytorch_model.bin", len(POINTER), POINTER), FINDING_POINTER_FILE),
        (("model.onnx", len(POINTER), POINTER), FINDING_POINTER_FILE),
        (("model-Q4_K_M.gguf", len(POINTER), POINTER), FINDING_POINTER_FILE),
        (("model.safetensors", len(PAGE), PAGE[:8]), FINDING_ERROR_PAGE),
        (("pytorch_model.bin", len(PAGE), PAGE), FINDING_ERROR_PAGE),
        (("model.safetensors", 0, b""), FINDING_EMPTY_FILE),
        (("pytorch_model.bin", 0, b""), FINDING_EMPTY_FILE),
        (("model.safetensors", 5, b"\x01\x00\x00\x00\x00"), FINDING_TRUNCATED_FILE),
        (("model.safetensors", 100, (5000).to_bytes(8, "little")), FINDING_TRUNCATED_FILE),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_known_and_costs_no_facts(file: File, finding: Finding) -> None:
    found = facts(file)
    assert found.completeness.wholeness == WHOLENESS_INCOMPLETE
    assert findings(found) == [finding]
    assert file[0] in found.completeness.defects[0].message
    assert "2336927755350992246" not in found.completeness.defects[0].message


def test_weights_that_end_early_are_cut_off() -> None:
    path, size, header = weights_file("model.safetensors", TENSORS)
    found = facts((path, size - 1, header))
    assert findings(found) == [FINDING_TRUNCATED_FILE]
    assert "is cut off: it has 3199 bytes of data where its header describes 3200" in (
        found.completeness.defects[0].message
    )


def test_a_gguf_file_that_ends_early_is_cut_off() -> None:
    path, _, header = gguf_file("a.gguf", {"general.architecture": "llama"}, {"token_embd.weight": (16, 100)}, F32)
    whole = parse_files([(path, len(header) + 6400, header)])
    assert whole.completeness.wholeness == WHOLENESS_WHOLE
    assert findings(parse_files([(path, 6000, header)])) == [FINDING_TRUNCATED_FILE]
    assert findings(parse_files([(path, len(header) - 10, header[:-10])])) == [FINDING_TRUNCATED_FILE]
    # Of a long vocabulary the beginning is sent, which says nothing about the file.
    assert parse_files([(path, 9000, header[:-10])]).completeness.wholeness == WHOLENESS_UNSPECIFIED


@pytest.mark.parametrize("stub", [POINTER, PAGE, b""])
def test_a_configuration_that_is_none_makes_the_model_incomplete_rather_than_malformed(stub: bytes) -> None:
    with pytest.raises(ParseError, match=r"config\.json is") as refused:
        parse_files([("config.json", len(stub), stub), weights_file("model.safetensors", TENSORS)])
    assert refused.value.reason == "Incomplete"


def test_an_index_that_is_a_pointer_makes_the_model_incomplete() -> None:
    found = facts(("model.safetensors.index.json", len(POINTER), POINTER), weights_file(NAMES[0], TENSORS))
    assert FINDING_POINTER_FILE in findings(found)


def test_a_tokenizer_that_is_a_pointer_makes_the_model_incomplete() -> None:
    found = facts(weights_file("model.safetensors", TENSORS), ("tokenizer.json", len(POINTER), POINTER))
    assert findings(found) == [FINDING_POINTER_FILE]


def test_files_without_a_configuration_may_be_known_to_be_incomplete() -> None:
    with pytest.raises(ParseError, match=r"model-00002-of-00002\.safetensors is missing") as refused:
        parse_files([weights_file(NAMES[0], TENSORS), index(*NAMES)])
    assert refused.value.reason == "Incomplete"


def test_weights_that_should_be_packed_and_are_not_are_of_another_format() -> None:
    config = json_file("config.json", {**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 4}})
    assert findings(parse_files([config, weights_file("model.safetensors", TENSORS)])) == [FINDING_OTHER_FORMAT]
    packed = weights_file("model.safetensors", {**TENSORS, "model.layers.0.qweight": ("I32", (2, 16))})
    assert parse_files([config, packed]).completeness.wholeness == WHOLENESS_WHOLE


def test_an_ordinary_text_beside_the_weights_is_no_stub() -> None:
    card = b"<!DOCTYPE html><p>a card in HTML</p>"
    found = facts(weights_file("model.safetensors", TENSORS), ("README.md", len(card), card))
    assert found.completeness.wholeness == WHOLENESS_WHOLE
    assert json.loads(CONFIG[2]) == LLAMA


def test_a_report_of_a_volume_has_room_for_why_the_model_is_incomplete() -> None:
    missing = [f"{'x' * 200}-{number:05}-of-00500.safetensors" for number in range(2, 500)]
    found = facts(weights_file("a.safetensors", TENSORS), index("a.safetensors", *missing))
    data = encode_report(InspectionReport(facts=found))
    assert len(data) <= MAX_BYTES
    completeness = json.loads(data)["facts"]["completeness"]
    assert completeness["wholeness"] == "WHOLENESS_INCOMPLETE"
    assert completeness["defects"][0]["message"].startswith("xxx")


def archive(path: str, missing: int = 0) -> File:
    """Weights in a ZIP archive, as a reader of directories sends them, without so many of their last bytes."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as members:
        members.writestr("archive/data.pkl", b"w" * 1000)
    data = written.getvalue()[: -missing or None]
    return path, len(data), data[:8] + ending_of(data[8:])


def test_a_pickle_that_is_an_archive_says_whether_it_is_whole() -> None:
    assert facts(archive("pytorch_model.bin")).completeness.wholeness == WHOLENESS_WHOLE
    found = facts(archive("pytorch_model.bin", missing=100))
    assert found.completeness.wholeness == WHOLENESS_INCOMPLETE
    assert findings(found) == [FINDING_TRUNCATED_FILE]
    assert found.completeness.defects[0].message.startswith("pytorch_model.bin is cut off: it is a ZIP archive")
    assert found.model_type == "llama"


def test_a_pickle_among_shards_that_is_cut_off_is_named() -> None:
    names = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    listed = json_file("pytorch_model.bin.index.json", {"weight_map": {"a": names[0], "b": names[1]}})
    assert facts(*map(archive, names), listed).completeness.wholeness == WHOLENESS_WHOLE
    found = facts(archive(names[0]), archive(names[1], missing=30), listed)
    assert findings(found) == [FINDING_TRUNCATED_FILE]
    assert names[1] in found.completeness.defects[0].message


@pytest.mark.parametrize(
    "file",
    [
        ("pytorch_model.bin", 5000, b""),
        ("pytorch_model.bin", 5000, b"\x80\x02\x8a\nl\xfc\x9cF"),
        ("pytorch_model.bin", 5000, b"PK\x03\x04"),
        ("model.onnx", 5000, b""),
    ],
    ids=["unread", "a pickle without an archive", "an archive of which nobody sent the end", "onnx"],
)
def test_a_file_that_says_nothing_of_its_length_proves_nothing(file: File) -> None:
    assert facts(file).completeness.wholeness == WHOLENESS_UNSPECIFIED

"""Looking at a directory of this machine: python -m services.parser inspect DIR."""

import json
import os
from pathlib import Path

import pytest

from services.parser.inspection import EXIT_NO_FACTS, main, read_files
from tests.support.safetensors_files import header_of

CONFIG = {"model_type": "unknown", "architectures": ["NovelForCausalLM"], "max_position_embeddings": 99}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(CONFIG))
    return directory


def test_facts_are_printed_in_camel_case(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(model)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["modelType"] == "unknown"
    assert facts["contextLength"] == "99"


def test_a_refusal_is_printed_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == EXIT_NO_FACTS
    assert json.loads(capsys.readouterr().out)["error"]["reason"] == "NoConfig"
    assert main([str(tmp_path / "missing")]) == EXIT_NO_FACTS
    assert json.loads(capsys.readouterr().out)["error"]["reason"] == "NoConfig"


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--other", "x", "y"]])
def test_wrong_usage_is_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_another_configuration_can_be_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / "other.json").write_text(json.dumps({**CONFIG, "model_type": "other"}))
    assert main(["--schema-path", "other.json", str(model)]) == 0
    assert json.loads(capsys.readouterr().out)["modelType"] == "other"


def test_only_the_header_of_weights_is_read(model: Path) -> None:
    size, data = header_of({"a": ("F32", (1 << 20,))})
    with (model / "model.safetensors").open("wb") as file:
        file.write(data)
        file.truncate(size)
    sent = {path: (whole, content) for path, whole, content in read_files(str(model))}
    assert sent["model.safetensors"] == (size, data)


def test_links_inside_are_followed_and_links_outside_are_not(model: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (model / "generation_config.json").symlink_to(secret)
    (model / "modules.json").symlink_to("config.json")
    (model / "dangling.json").symlink_to("nothing")
    (model / "loop").symlink_to(model)
    assert sorted(path for path, _, _ in read_files(str(model))) == ["config.json", "modules.json"]


def test_a_snapshot_of_a_hugging_face_cache_is_parsed_through_its_links(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot, blobs = tmp_path / "models--org--one" / "snapshots" / "c0ffee", tmp_path / "models--org--one" / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    (blobs / "a-blob").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    (snapshot / "config.json").symlink_to("../../blobs/a-blob")
    assert main([str(snapshot)]) == 0
    assert json.loads(capsys.readouterr().out)["modelType"] == "llama"


def test_a_pipe_does_not_block_and_is_no_file(model: Path) -> None:
    (model / "config.json").unlink()
    os.mkfifo(model / "config.json")
    assert list(read_files(str(model))) == []


def test_hidden_folders_are_left_alone(model: Path) -> None:
    (model / ".cache").mkdir()
    (model / ".cache" / "config.json").write_text("{}")
    assert [path for path, _, _ in read_files(str(model))] == ["config.json"]


def test_a_configuration_of_100_megabytes_is_refused_unread(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (model / "config.json").open("r+b") as file:
        file.truncate(100 << 20)
    assert main([str(model)]) == EXIT_NO_FACTS
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["reason"] == "ParseFailed"
    assert "longer" in error["message"]

"""What the plugin says of a directory or a repository: without a parser."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.kubectl.__main__ import main
from clients.kubectl.parsing import Unreadable, parsed
from tests.support.hub import Fault, Hub, generated_model
from tests.support.safetensors_files import header_of

CONFIG = {"model_type": "bert", "architectures": ["BertModel"], "max_position_embeddings": 512}
HEADER = header_of({"a": ("F32", (2, 3)), "b": ("F32", (4,))})[1]


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OME_PARSER", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").write_bytes(HEADER + b"\0" * 40)
    return tmp_path


def test_without_the_parser_the_files_speak_for_themselves(model: Path) -> None:
    found = parsed(str(model))
    assert found["modelType"] == "bert"
    assert (found["contextLength"], found["tensors"], found["elementsStored"], found["files"]) == (512, 2, 10, 2)
    assert "OME_PARSER" in found["note"]


def test_a_program_that_is_not_the_parser_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OME_PARSER", "/bin/true")
    with pytest.raises(Unreadable, match="which is not the parser"):
        parsed(str(model))
    monkeypatch.setenv("OME_PARSER", "/nowhere/parser")
    with pytest.raises(Unreadable, match="cannot be started"):
        parsed(str(model))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("config.json", b"{", "config.json is no JSON"),
        ("config.json", b"[]", "config.json is no JSON object"),
        ("model.safetensors", b"\x02\0\0\0\0\0\0\0[]", "the header of model.safetensors is no JSON object"),
        ("model.safetensors", b"\x08\0\0\0\0\0\0\0" + b'{"a": 1}', "describes no tensors"),
        ("model.safetensors", b"\xff" * 20, "the header of model.safetensors is no JSON"),
    ],
)
def test_files_that_say_nonsense_are_named(model: Path, name: str, content: bytes, why: str) -> None:
    (model / name).write_bytes(content)
    with pytest.raises(Unreadable, match=why):
        parsed(str(model))


def test_a_directory_without_a_model_ends_with_one_and_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["parse", str(tmp_path)]) == 1
    assert "there is no config.json and no model_index.json" in capsys.readouterr().err
    assert main(["parse", str(tmp_path / "absent")]) == 1


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


def test_of_a_repository_only_what_tells_about_the_model_is_fetched(
    hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add_model("org/m", {"config.json": json.dumps(CONFIG)}, generated=generated_model(1 << 20, seed=1))
    assert main(["parse", "hf://org/m", "-o", "json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found["modelType"] == "bert"
    assert found["bytes"] > 1 << 20
    assert hub.sent_bytes() < 1 << 17


def test_the_token_goes_to_the_hub_and_to_nobody_that_it_leads_to(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add_token("hf_secret", ["org/m"])
    hub.add_model("org/m", {"config.json": json.dumps(CONFIG)}, generated=generated_model(1 << 20), private=True)
    with pytest.raises(Unreadable, match=r"answers 40[14]"):
        parsed("hf://org/m")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert parsed("hf://org/m")["modelType"] == "bert"
    led = hub.requests(port="cdn")
    assert led
    assert not any(request.authorized for request in led)


def test_what_a_hub_refuses_is_said_in_its_own_words(hub: Hub) -> None:
    with pytest.raises(Unreadable, match=r"answers 40[14]"):
        parsed("hf://org/absent")
    hub.inject(Fault("status", path="*", status=503))
    with pytest.raises(Unreadable, match="answers 503"):
        parsed("hf://org/m")


def test_nobody_answers_at_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(Unreadable, match="cannot be asked"):
        parsed("hf://org/m")
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    with pytest.raises(Unreadable, match="no address of HTTP"):
        parsed("hf://org/m")
    with pytest.raises(Unreadable):
        parsed("hf://")

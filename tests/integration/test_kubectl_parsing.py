"""The kubectl plugin has the parser of a checkout say what a directory or a repository holds."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from clients.kubectl.__main__ import main
from clients.kubectl.parsing import Unreadable, parsed
from tests.support.hub import Hub
from tests.support.programs import ROOT
from tests.support.safetensors_files import header_of

CONFIG = {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 8}
SIZE, HEADER = header_of({"bert.embeddings.word_embeddings.weight": ("F32", (1 << 16, 8))})
WEIGHTS = HEADER.ljust(SIZE, b"\0")


@pytest.fixture(autouse=True)
def with_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OME_PARSER", f"{shlex.quote(sys.executable)} -m services.parser")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'proto'}")


def test_a_directory_and_a_repository_of_the_same_files_have_the_same_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.add_model("org/m", {"config.json": json.dumps(CONFIG), "model.safetensors": WEIGHTS})
        local, remote = parsed(str(tmp_path)), parsed("hf://org/m")
        assert hub.sent_bytes("*.safetensors") < 1 << 16 < SIZE
    assert local["architecture"] == "BertModel"
    assert local == remote


def test_what_the_parser_refuses_is_said_in_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unreadable):
        parsed(str(tmp_path))
    assert main(["parse", str(tmp_path)]) == 1
    assert "cannot parse" in capsys.readouterr().err

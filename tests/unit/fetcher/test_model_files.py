"""What the parser is sent of a model directory."""

import os
from pathlib import Path

from services.fetcher.model.model_files import fingerprint, read_model_files

HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
SAFETENSORS = len(HEADER).to_bytes(8, "little") + HEADER + b"\1\2\3\4"


def sent(directory: Path, schema_path: str = "") -> dict[str, bytes]:
    return {file.path: file.data for file in read_model_files(directory, schema_path)}


def test_metadata_goes_whole_headers_of_weights_and_of_the_rest_the_name_only(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    (tmp_path / "model.safetensors").write_bytes(SAFETENSORS)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04weights")
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_bytes(b"{}")

    assert sent(tmp_path) == {
        "config.json": b"{}",
        "model.safetensors": SAFETENSORS[:-4],
        "pytorch_model.bin": b"",
        "unet/config.json": b"{}",
    }
    assert {file.path: file.size_bytes for file in read_model_files(tmp_path, "")}["pytorch_model.bin"] == 9


def test_the_configuration_that_the_spec_names_goes_too(tmp_path: Path) -> None:
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "mine.yaml").write_bytes(b"a: b")

    assert sent(tmp_path, "schema/mine.yaml") == {"schema/mine.yaml": b"a: b"}
    assert sent(tmp_path) == {"schema/mine.yaml": b""}


def test_weights_are_never_sent_whatever_their_header_claims(tmp_path: Path) -> None:
    weights = (1 << 40).to_bytes(8, "little") + os.urandom(64)
    (tmp_path / "lying.safetensors").write_bytes(weights)
    (tmp_path / "short.safetensors").write_bytes(b"\1")

    assert sent(tmp_path) == {"lying.safetensors": weights[:8], "short.safetensors": b""}


def test_links_and_pipes_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "secret.json").write_text("secret")
    (tmp_path / "model" / "config.json").symlink_to(tmp_path / "secret.json")
    os.mkfifo(tmp_path / "model" / "generation_config.json")

    assert sent(tmp_path / "model") == {}


def test_fingerprint_changes_with_the_files(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before

    os.utime(config, ns=(1, 1))
    assert fingerprint(tmp_path) != before

"""What the parser is sent of a model directory."""

import os
import tempfile
import zipfile
from pathlib import Path

import pytest

from libs.artifact.metadata_files import MAX_CARD_BYTES, MAX_DOCUMENT_BYTES, MAX_INDEX_BYTES, MAX_TOTAL_BYTES
from libs.artifact.model_directory import UnreadableFolder, fingerprint, read_model_directory

HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
SAFETENSORS = len(HEADER).to_bytes(8, "little") + HEADER + b"\1\2\3\4"


def sent(directory: Path, schema_path: str = "", boundary: Path | str = "") -> dict[str, bytes]:
    return {file.path: file.data for file in read_model_directory(str(directory), schema_path, str(boundary))}


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
    assert {file.path: file.size_bytes for file in read_model_directory(str(tmp_path))}["pytorch_model.bin"] == 9


def test_of_weights_in_an_archive_its_beginning_and_its_end_go(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as members:
        members.writestr("archive/data/0", b"w" * 100_000)
    whole = (tmp_path / "pytorch_model.bin").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[:-100])
    (tmp_path / "tiny.pt").write_bytes(whole[:9])

    assert sent(tmp_path) == {
        "cut.pt": whole[:8],
        "pytorch_model.bin": whole[:8] + whole[-98:],
        "tiny.pt": whole[:8],
    }


def test_the_configuration_that_the_spec_names_goes_too(tmp_path: Path) -> None:
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "mine.yaml").write_bytes(b"a: b")

    assert sent(tmp_path, "schema/mine.yaml") == {"schema/mine.yaml": b"a: b"}
    assert sent(tmp_path) == {"schema/mine.yaml": b""}


def test_weights_are_never_sent_whatever_their_header_claims(tmp_path: Path) -> None:
    weights = (1 << 40).to_bytes(8, "little") + os.urandom(64)
    (tmp_path / "lying.safetensors").write_bytes(weights)
    (tmp_path / "short.safetensors").write_bytes(b"\1")

    assert sent(tmp_path) == {"lying.safetensors": weights[:8], "short.safetensors": b"\1"}


def test_links_out_of_the_boundary_links_to_folders_and_pipes_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "secret.json").write_text("secret")
    (tmp_path / "model" / "config.json").symlink_to(tmp_path / "secret.json")
    (tmp_path / "model" / "loop").symlink_to(tmp_path / "model")
    (tmp_path / "model" / "dangling.json").symlink_to("nothing")
    os.mkfifo(tmp_path / "model" / "generation_config.json")

    assert sent(tmp_path / "model") == {}


def cached_snapshot(cache: Path) -> Path:
    """A snapshot as huggingface_hub lays it out: each file is a link to a blob beside the snapshots."""
    snapshot = cache / "models--org--one" / "snapshots" / "c0ffee"
    blobs = cache / "models--org--one" / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    for name, data in (("config.json", b"{}"), ("model.safetensors", SAFETENSORS)):
        (blobs / f"blob-of-{name}").write_bytes(data)
        (snapshot / name).symlink_to(f"../../blobs/blob-of-{name}")
    return snapshot


def test_a_snapshot_of_a_hugging_face_cache_is_read_through_its_links(tmp_path: Path) -> None:
    snapshot = cached_snapshot(tmp_path)
    assert sent(snapshot, boundary=tmp_path) == {"config.json": b"{}", "model.safetensors": SAFETENSORS[:-4]}
    assert sent(snapshot) == {}, "the blobs lie outside"


def test_fingerprint_changes_with_what_links_lead_to(tmp_path: Path) -> None:
    snapshot = cached_snapshot(tmp_path)
    before = fingerprint(str(snapshot), str(tmp_path))
    os.utime(tmp_path / "models--org--one" / "blobs" / "blob-of-config.json", ns=(1, 1))
    assert fingerprint(str(snapshot), str(tmp_path)) != before


def test_reading_ends_one_above_the_limits_so_that_the_parser_can_say_so(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors.index.json", "README.md"):
        with open(tmp_path / name, "wb") as file:
            file.truncate(100 << 20)
    lengths = {path: len(data) for path, data in sent(tmp_path).items()}
    assert lengths == {
        "README.md": MAX_CARD_BYTES,
        "config.json": MAX_DOCUMENT_BYTES + 1,
        "model.safetensors.index.json": MAX_INDEX_BYTES + 1,
    }
    for number in range(3):
        (tmp_path / f"{number}.safetensors.index.json").symlink_to("model.safetensors.index.json")
    assert sum(len(data) for data in sent(tmp_path).values()) == MAX_TOTAL_BYTES + 1


def test_fingerprint_changes_with_the_files(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    before = fingerprint(str(tmp_path))
    assert fingerprint(str(tmp_path)) == before

    os.utime(config, ns=(1, 1))
    assert fingerprint(str(tmp_path)) != before


def test_a_folder_that_may_not_be_read_fails_reading_and_changes_no_fingerprint() -> None:
    # pytest's own folders are closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "config.json").write_text("{}")
        before = fingerprint(folder)
        (Path(folder) / "shut").mkdir(mode=0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65532)
            assert fingerprint(folder) == before
            with pytest.raises(UnreadableFolder, match="shut"):
                list(read_model_directory(folder))
        finally:
            os.seteuid(user)
            (Path(folder) / "shut").chmod(0o700)

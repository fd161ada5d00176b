"""Looking for a model in a mounted volume: python -m services.parser inspect-volume."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.json_format import Parse

from ome.model.v1 import model_pb2
from ome.parser.v1.parser_pb2 import Component, Finding, InspectionReport, ModelFacts
from services.parser.report import MAX_BYTES, encode_report
from services.parser.volume import inspect, main

CONFIG = {"model_type": "unknown", "architectures": ["NovelForCausalLM"], "max_position_embeddings": 99}


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    mount = tmp_path / "volume"
    put_model(mount / "llama" / "70b")
    (mount / "llama" / "70b" / "weights.bin").write_bytes(b"12345")
    return mount


def put_model(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))


def read(report: Path) -> InspectionReport:
    return Parse(report.read_text(), InspectionReport())


def test_model_of_a_volume_is_reported_with_its_facts_and_its_size(volume: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    assert main([f"--mount={volume}", "--path=llama/70b", f"--report={report}"]) == 0
    found = read(report)
    assert not found.HasField("problem")
    assert found.facts.architecture == "NovelForCausalLM"
    assert (found.files, found.bytes) == (2, 5 + len(json.dumps(CONFIG)))


def test_the_whole_volume_may_be_the_model(volume: Path) -> None:
    lost_and_found = volume / "llama" / "70b" / "lost+found"
    lost_and_found.mkdir()
    (lost_and_found / "config.json").write_text("{")
    assert inspect(str(volume / "llama" / "70b"), "").facts.context_length == 99


@pytest.mark.parametrize(
    ("path", "reason", "words"),
    [
        ("llama/8b", model_pb2.REASON_NOT_FOUND, "the volume has no directory 'llama/8b'"),
        ("llama/70b/config.json", model_pb2.REASON_NOT_FOUND, "is a file of the volume"),
        ("llama/70b/config.json/x", model_pb2.REASON_NOT_FOUND, "is a file of the volume"),
        ("empty", model_pb2.REASON_NOT_FOUND, "is empty"),
        ("hidden", model_pb2.REASON_NOT_FOUND, "is empty"),
        ("../outside", model_pb2.REASON_INVALID_PATH, "leads out of the volume"),
        ("out", model_pb2.REASON_INVALID_PATH, "leads out of the volume"),
        ("absolute", model_pb2.REASON_INVALID_PATH, "leads out of the volume"),
        (".ome/artifacts/x", model_pb2.REASON_INVALID_PATH, "leads into .ome"),
        ("published", model_pb2.REASON_INVALID_PATH, "leads into .ome"),
        ("loop", model_pb2.REASON_DISK_ERROR, "symbolic links"),
    ],
)
def test_what_is_no_model_is_told_with_a_reason(
    path: str, reason: model_pb2.Reason, words: str, volume: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.json").write_text(json.dumps(CONFIG))
    (volume / "empty").mkdir()
    (volume / "hidden" / ".cache").mkdir(parents=True)
    (volume / "out").symlink_to("../outside")
    (volume / ".ome" / "artifacts" / "x").mkdir(parents=True)
    (volume / "published").symlink_to(".ome/artifacts/x")
    (volume / "absolute").symlink_to(outside)
    (volume / "loop").symlink_to("loop")
    for parse in (True, False):
        found = inspect(str(volume), path, parse=parse)
        assert (found.problem.reason, words in found.problem.message) == (reason, True), found
        assert not found.HasField("facts")


@pytest.mark.parametrize(
    ("config", "reason"),
    [(None, model_pb2.REASON_NO_CONFIG), ("{", model_pb2.REASON_PARSE_FAILED)],
    ids=["no configuration", "a broken one"],
)
def test_model_that_cannot_be_parsed_is_there_all_the_same(
    config: str | None, reason: model_pb2.Reason, volume: Path
) -> None:
    path = volume / "llama" / "70b" / "config.json"
    if config is None:
        path.unlink()
    else:
        path.write_text(config)
    found = inspect(str(volume), "llama/70b")
    assert not found.HasField("problem")
    assert found.parse_problem.reason == reason


def test_without_parsing_nothing_is_read(volume: Path) -> None:
    (volume / "llama" / "70b" / "config.json").write_text("{")
    assert inspect(str(volume), "llama/70b", parse=False) == InspectionReport()


def test_another_configuration_can_be_named(volume: Path) -> None:
    (volume / "llama" / "70b" / "other.json").write_text(json.dumps({**CONFIG, "model_type": "other"}))
    assert inspect(str(volume), "llama/70b", "other.json").facts.model_type == "other"


def test_links_between_folders_of_one_volume_are_followed_and_others_are_not(volume: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    snapshot = volume / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../llama/70b/config.json")
    (snapshot / "generation_config.json").symlink_to(tmp_path / "secret.json")
    found = inspect(str(volume), "snapshots/main")
    assert found.facts.model_type == "unknown"
    assert found.files == 1


@pytest.fixture
def open_volume() -> Iterator[Path]:
    """A volume where the user of a Job gets to; root becomes that user until the test ends."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        put_model(Path(folder) / "open")
        put_model(Path(folder) / "shut")
        (Path(folder) / "open" / "config.json").chmod(0)
        (Path(folder) / "shut").chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65532)
        yield Path(folder)
        os.seteuid(user)
        (Path(folder) / "shut").chmod(0o700)


def test_directory_and_configuration_that_may_not_be_read_say_who_may_not(open_volume: Path) -> None:
    unparsed = inspect(str(open_volume), "open").parse_problem
    assert unparsed.reason == model_pb2.REASON_FORBIDDEN
    assert f"config.json may not be read by user {os.geteuid()}" in unparsed.message
    assert inspect(str(open_volume), "open", parse=False) == InspectionReport()
    unread = inspect(str(open_volume), "shut").problem
    assert unread.reason == model_pb2.REASON_FORBIDDEN
    assert f"user {os.geteuid()}" in unread.message


def test_names_of_any_bytes_end_in_a_report(volume: Path, tmp_path: Path) -> None:
    folder = volume / "llama" / "70b" / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "config.json").write_text("{")
    report = tmp_path / "report"
    assert main([f"--mount={volume}", "--path=llama/70b", f"--report={report}"]) == 0
    assert read(report).parse_problem.reason == model_pb2.REASON_INVALID_LISTING


FACTS = ModelFacts(model_type="llama", architecture="LlamaForCausalLM", context_length=131072)


@pytest.mark.parametrize(
    ("report", "kept"),
    [
        (InspectionReport(facts=ModelFacts(warnings=["odd"] * 5)), "odd"),
        (InspectionReport(facts=ModelFacts(warnings=["x" * 400] * 50)), "Left out"),
        (InspectionReport(facts=ModelFacts(components=[Component(name="n" * 90)] * 64)), "components"),
        (InspectionReport(facts=ModelFacts(architecture="x" * 5000)), "too long"),
        (InspectionReport(problem=Finding(message="é" * 5000)), "ééé"),
        (InspectionReport(problem=Finding(message="\x00" * 5000)), "problem"),
    ],
    ids=["few warnings", "many warnings", "many components", "an endless name", "an endless sentence", "escapes"],
)
def test_every_report_fits_into_a_termination_message(report: InspectionReport, kept: str) -> None:
    if report.HasField("facts"):
        report.facts.MergeFrom(ModelFacts(model_type="llama"))
    encoded = encode_report(report)
    assert len(encoded) <= MAX_BYTES
    assert kept in encoded.decode()
    Parse(encoded, InspectionReport())

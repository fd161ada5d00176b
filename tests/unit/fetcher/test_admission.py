"""What a listing must be for a byte of it to be fetched: judged by names, and by an index where that decides."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from libs.artifact.findings import Finding
from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile, new_manifest
from libs.artifact.reasons import Reason
from libs.chassis.errors import Missing, Unavailable
from services.fetcher.sources.admission import admit
from services.fetcher.sources.backend import Listing
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.egress import ANYWHERE
from services.fetcher.transfer.origin import Location, Origin, Streams
from tests.support.one_answer import answering

SHARDS = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
INDEX = "model.safetensors.index.json"


@contextmanager
def serving_files(files: Mapping[str, bytes | int], moved: bool = False) -> Iterator[str]:
    """A server of the files that have content, behind a redirect if they have moved."""

    def answer(target: str) -> tuple[int, Mapping[str, str], bytes]:
        if moved and not target.startswith("/moved/"):
            return 307, {"Location": f"/moved{target}"}, b""
        content = files.get(target.rpartition("/")[2])
        return (200, {}, content) if isinstance(content, bytes) else (404, {}, b"no such file")

    with answering(answer) as (url, _):
        yield url


def index_of(*names: str) -> bytes:
    return json.dumps({"weight_map": dict(enumerate(names))}).encode()


@dataclass
class Repository:
    """A source of small files over HTTP; those without content are listed and not there."""

    files: Mapping[str, bytes | int]
    url: str = ""
    name: str = "hf://org/model"

    def list(self) -> Listing:
        rows = []
        for path, content in self.files.items():
            if isinstance(content, int):
                rows.append(ManifestFile(path, content, ChecksumAlgorithm.NONE, ""))
            else:
                checksum = hashlib.sha256(content).hexdigest()
                rows.append(ManifestFile(path, len(content), ChecksumAlgorithm.SHA256, checksum))
        return Listing(new_manifest("", rows))

    def origin(self, revision: str) -> Origin:
        if not self.url:
            raise Unavailable(Reason.UNAVAILABLE, "the source is away")
        return self

    def streams(self, revision: str) -> Streams | None:
        return None

    def locate(self, file: ManifestFile, again: bool) -> Location:
        return Location(f"{self.url}/{file.path}", {"Authorization": "Bearer secret"})

    def admit(self, **parameters: str) -> Sequence[Finding]:
        """The findings of the verdict on a listing that is admitted."""
        admitted = admit(self.list(), self, self.name, parameters, StopFlag(), ANYWHERE)
        return [defect.finding for defect in admitted.verdict.defects]


def test_what_the_names_prove_is_refused_before_a_byte_is_fetched() -> None:
    repository = Repository({"config.json": 700, SHARDS[0]: 10, SHARDS[2]: 10})
    with pytest.raises(Missing) as refused:
        repository.admit()
    assert refused.value.reason == "Incomplete"
    assert refused.value.message == (
        "hf://org/model: model-00002-of-00003.safetensors is missing: there are 2 of 3 shards; "
        'mend the source, or set parameters.allowIncomplete to "true"'
    )
    with pytest.raises(Missing):
        repository.admit(allowIncomplete="false")


def test_a_model_may_ask_for_what_is_incomplete() -> None:
    repository = Repository({SHARDS[0]: 10, SHARDS[2]: 10})
    assert repository.admit(allowIncomplete="true") == [Finding.MISSING_SHARDS]


def test_an_ordinary_listing_is_admitted_without_reading_anything() -> None:
    assert Repository(dict.fromkeys([*SHARDS, INDEX, "config.json"], 10)).admit() == []


def test_an_index_is_read_where_it_may_explain_a_gap() -> None:
    explained: dict[str, bytes | int] = {INDEX: index_of(SHARDS[0], SHARDS[2]), SHARDS[0]: 10, SHARDS[2]: 10}
    with serving_files(explained) as url:
        assert Repository(explained, url=url).admit() == []
    broken: dict[str, bytes | int] = {INDEX: index_of(*SHARDS), SHARDS[0]: 10, SHARDS[2]: 10}
    with serving_files(broken) as url, pytest.raises(Missing, match=r"model\.safetensors\.index\.json names 3 files"):
        Repository(broken, url=url).admit()
    with serving_files(broken, moved=True) as url, pytest.raises(Missing, match="names 3 files"):
        Repository(broken, url=url).admit()


def test_the_parts_of_a_pipeline_are_read_where_one_of_its_folders_has_a_gap() -> None:
    part = "unet/diffusion_pytorch_model-0000{}-of-00002.safetensors"
    index = {"unet": ["diffusers", "UNet2DConditionModel"]}
    files: dict[str, bytes | int] = {"model_index.json": json.dumps(index).encode(), part.format(1): 10}
    with serving_files(files) as url, pytest.raises(Missing, match="00002-of-00002"):
        Repository(files, url=url).admit()
    other = {**files, "model_index.json": json.dumps({"vae": ["diffusers", "AutoencoderKL"]}).encode()}
    with serving_files(other) as url:
        assert Repository(other, url=url).admit() == []


@pytest.mark.parametrize("fault", ["away", "other bytes", "404", "no origin"])
def test_an_index_that_cannot_be_read_proves_nothing(fault: str) -> None:
    files: dict[str, bytes | int] = {INDEX: index_of(*SHARDS), SHARDS[0]: 10, SHARDS[2]: 10}
    served: dict[str, bytes | int] = {INDEX: index_of("x.safetensors")} if fault == "other bytes" else {}
    with serving_files(served) as url:
        asked = {"away": "http://127.0.0.1:1", "no origin": ""}.get(fault, url)
        assert Repository(files, url=asked).admit() == []

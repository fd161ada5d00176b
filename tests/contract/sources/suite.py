"""What every source of models does, whatever it is: run on each backend, over a real server, through the catalogue.

A backend's tests bring a fixture `ground` and a class that inherits SourceSuite. What is particular to it stands beside
them.
"""

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile
from libs.chassis.errors import Corrupt, Invalid, Missing, ServiceError, Unavailable
from services.fetcher.settings import SourceSettings
from services.fetcher.sources.catalogue import Sources
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.origin import Location
from tests.support.transfers import QUICK, acquire, contents_of, leftovers, new_store, small_model

NAME = "acme/tiny"
MODEL = small_model() | {"a folder/näme+1%.txt": b"odd"}
# A store keeps such a name, and a file system might too, but no tool reads it.
ODD_NAME = "notes\tof a day.txt"
PAUSE_SECONDS = 7
_HASHES: Mapping[ChecksumAlgorithm, Callable[[bytes], str]] = {
    ChecksumAlgorithm.SHA256: lambda content: hashlib.sha256(content).hexdigest(),
    ChecksumAlgorithm.MD5: lambda content: hashlib.md5(content).hexdigest(),
    ChecksumAlgorithm.GIT_SHA1: lambda content: hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
}


@dataclass(frozen=True)
class Access:
    """How a model of a ground is reached: what the model says, its Secret, and what the fetcher is configured with."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, bytes] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def sources(self) -> Sources:
        """The catalogue of a fetcher that is configured so."""
        return Sources(SourceSettings(**{"egress_allow": ("127.0.0.1",), **self.settings}))

    async def list(self, uri: str, **parameters: str) -> Manifest:
        """List a model, with some more parameters."""
        with self.sources() as sources:
            asked = {**self.parameters, **parameters}
            return (await asyncio.to_thread(sources.list, uri, asked, self.credentials)).manifest

    async def fetch(self, uri: str, manifest: Manifest, root: Path) -> dict[str, bytes]:
        """Fetch what was listed into a store; what lies there afterwards."""
        with self.sources() as sources, new_store(root) as store:
            origin = await sources.origin(uri, self.parameters, self.credentials, manifest.source_revision)
            try:
                acquire(store, manifest, origin, StopFlag(), limits=QUICK, egress=sources.egress(uri))
            except ServiceError:
                assert not store.holds(manifest.digest)
                raise
            assert leftovers(store) == []
            return contents_of(store.artifact_path(manifest.digest))

    async def refusal(self, uri: str, **parameters: str) -> ServiceError | InvalidValue:
        """The error that a listing ends with."""
        with pytest.raises((ServiceError, InvalidValue)) as raised:
            await self.list(uri, **parameters)
        assert isinstance(raised.value, ServiceError | InvalidValue)
        return raised.value


@dataclass(frozen=True)
class Trouble:
    """A source that refuses every listing for a while: how it is reached, and how often it was asked."""

    access: Access
    asked: Callable[[], int]


class Ground(Protocol):
    """A server of one kind of source. Models have names of two parts; what is published is for `access` alone."""

    # Whether a refusal carries the pause that the source asks for to the controller.
    tells_pauses: bool
    # Whether the backend takes parameters that nobody has declared.
    takes_any_parameter: bool

    @property
    def access(self) -> Access:
        """The right credentials at the right place."""

    @property
    def wrong_access(self) -> Access:
        """Credentials in the right form that the source does not accept."""

    @property
    def away(self) -> Access:
        """The place where the source would be, if it were not away."""

    @property
    def secrets(self) -> Sequence[str]:
        """Words that nobody may be shown."""

    def uri(self, name: str) -> str:
        """What storageUri says of a model."""

    def publish(self, name: str, contents: Mapping[str, bytes]) -> None:
        """Let a model have exactly these files."""

    def in_trouble(self, status: int) -> AbstractContextManager[Trouble]:
        """Answer listings with 429 and PAUSE_SECONDS, or with 503, or in words of the source that mean the same."""


def closed_endpoint() -> str:
    """A URL at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


async def _outcome(fetching: Awaitable[dict[str, bytes]]) -> dict[str, bytes] | ServiceError:
    try:
        return await fetching
    except (Corrupt, Missing) as error:
        return error


class SourceSuite:
    """The sentences."""

    async def test_a_model_is_listed_with_the_paths_sizes_and_true_checksums_of_its_files(self, ground: Ground) -> None:
        ground.publish(NAME, MODEL)
        manifest = await ground.access.list(ground.uri(NAME))
        assert {file.path: file.size_bytes for file in manifest.files} == {
            path: len(content) for path, content in MODEL.items()
        }
        for file in manifest.files:
            if file.algorithm in _HASHES:
                assert file.checksum == _HASHES[file.algorithm](MODEL[file.path])

    async def test_what_was_listed_is_fetched_by_the_engine_into_the_store(
        self, ground: Ground, tmp_path: Path
    ) -> None:
        ground.publish(NAME, MODEL)
        uri = ground.uri(NAME)
        assert await ground.access.fetch(uri, await ground.access.list(uri), tmp_path / "root") == MODEL

    async def test_a_second_way_is_opened_by_those_who_have_one_only(self, ground: Ground) -> None:
        access = ground.access
        with access.sources() as sources:
            streams = sources.streams(ground.uri(NAME), access.parameters, access.credentials, "revision")
        assert streams is None or "over" in streams.name

    async def test_patterns_choose_the_files(self, ground: Ground) -> None:
        ground.publish(NAME, MODEL)
        manifest = await ground.access.list(ground.uri(NAME), allowPatterns="*.json", ignorePatterns="tokenizer/")
        assert [file.path for file in manifest.files] == ["config.json"]

    async def test_patterns_that_leave_nothing_are_refused_by_their_names(self, ground: Ground) -> None:
        ground.publish(NAME, MODEL)
        error = await ground.access.refusal(ground.uri(NAME), allowPatterns="*.gguf")
        assert isinstance(error, Invalid)
        assert error.reason == "InvalidParameter"
        assert "allowPatterns" in error.message

    async def test_a_parameter_that_does_not_exist_is_refused_by_its_name(self, ground: Ground) -> None:
        ground.publish(NAME, MODEL)
        if ground.takes_any_parameter:
            assert (await ground.access.list(ground.uri(NAME), flavour="int4")).files
            return
        error = await ground.access.refusal(ground.uri(NAME), flavour="int4")
        assert error.reason == "InvalidParameter"
        assert "storage.parameters.flavour does not exist" in error.message

    async def test_equal_files_are_one_artifact_and_other_files_another(self, ground: Ground) -> None:
        digests = []
        for contents in (MODEL, MODEL | {"config.json": b"{}"}, MODEL):
            ground.publish(NAME, contents)
            digests.append((await ground.access.list(ground.uri(NAME))).digest)
        assert digests[1] != digests[0]
        # Where only versions tell contents apart, an upload is another version although the bytes are the same.
        assert digests[2] != digests[1]

    @pytest.mark.parametrize("change", ["replaced", "shorter", "longer", "gone"])
    async def test_a_file_that_changes_after_the_listing_is_not_taken_for_the_one_that_was_listed(
        self, ground: Ground, tmp_path: Path, change: str
    ) -> None:
        ground.publish(NAME, MODEL)
        uri = ground.uri(NAME)
        manifest = await ground.access.list(uri)
        weights = MODEL["model.safetensors"]
        others = {"replaced": weights[::-1], "shorter": weights[:-1], "longer": weights + b"!"}
        after = {**MODEL, **({"model.safetensors": others[change]} if change in others else {})}
        if change == "gone":
            del after["model.safetensors"]
        ground.publish(NAME, after)
        outcome = await _outcome(ground.access.fetch(uri, manifest, tmp_path / "root"))
        if isinstance(outcome, ServiceError):
            assert outcome.reason in ("SourceChanged", "ChecksumMismatch", "NotFound")
            again = await ground.access.list(uri)
            assert await ground.access.fetch(uri, again, tmp_path / "again") == after
        else:
            # A source with revisions still has the one that was listed.
            assert outcome == MODEL

    async def test_names_that_a_file_system_may_not_keep_apart_are_refused(self, ground: Ground) -> None:
        ground.publish(NAME, {"config.json": b"{}", "Config.json": b"{ }"})
        error = await ground.access.refusal(ground.uri(NAME))
        assert error.reason == "InvalidListing"
        assert "Config.json" in error.message

    async def test_an_object_that_cannot_be_a_file_is_named_and_patterns_may_leave_it_out(self, ground: Ground) -> None:
        ground.publish(NAME, MODEL | {ODD_NAME: b"odd"})
        error = await ground.access.refusal(ground.uri(NAME))
        assert error.reason == "InvalidListing"
        assert repr(ODD_NAME) in error.message
        assert "ignorePatterns" in error.message
        manifest = await ground.access.list(ground.uri(NAME), ignorePatterns="notes*")
        assert {file.path for file in manifest.files} == set(MODEL)

    async def test_a_model_that_does_not_exist_is_missing_and_named(self, ground: Ground) -> None:
        ground.publish(NAME, MODEL)
        error = await ground.access.refusal(ground.uri("acme/nothing"))
        assert isinstance(error, Missing)
        assert error.reason == "NotFound"
        assert "acme/nothing" in error.message

    async def test_a_model_without_files_is_missing(self, ground: Ground) -> None:
        ground.publish(NAME, MODEL)
        ground.publish(NAME, {})
        error = await ground.access.refusal(ground.uri(NAME))
        assert isinstance(error, Missing)
        assert error.reason == "NotFound"
        assert NAME in error.message

    async def test_credentials_that_are_not_accepted_fetch_nothing(self, ground: Ground, tmp_path: Path) -> None:
        ground.publish(NAME, MODEL)
        uri = ground.uri(NAME)
        manifest = await ground.access.list(uri)
        with pytest.raises(Missing) as raised:
            await ground.wrong_access.fetch(uri, manifest, tmp_path / "root")
        assert raised.value.reason in ("Forbidden", "NotFound")

    async def test_nothing_secret_is_shown(
        self, ground: Ground, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        ground.publish(NAME, MODEL)
        uri, access = ground.uri(NAME), ground.access
        manifest = await access.list(uri)
        await access.fetch(uri, manifest, tmp_path / "root")
        shown = []
        with access.sources() as sources:
            origin = await sources.origin(uri, access.parameters, access.credentials, manifest.source_revision)
            shown += [repr(origin), repr(origin.locate(manifest.files[0], again=False))]
        for other in (ground.wrong_access, ground.away):
            try:
                await other.list(uri)
            except (ServiceError, InvalidValue) as error:
                shown.append(str(error))
        for status in (429, 503):
            with ground.in_trouble(status) as trouble:
                shown.append((await trouble.access.refusal(uri)).message)
        shown += capfd.readouterr()
        assert ground.secrets
        for secret in ground.secrets:
            assert secret not in " ".join(shown)

    async def test_a_location_is_for_a_file_and_does_not_show_its_address(self, ground: Ground) -> None:
        ground.publish(NAME, MODEL)
        uri, access = ground.uri(NAME), ground.access
        manifest = await access.list(uri)
        with access.sources() as sources:
            origin = await sources.origin(uri, access.parameters, access.credentials, manifest.source_revision)
            found = {file.path: origin.locate(file, again=False) for file in manifest.files}
        assert origin.name == uri.rstrip("/")
        assert len({location.url for location in found.values()}) == len(MODEL)
        assert all(repr(location) == repr(Location("")) for location in found.values())

    async def test_a_source_that_is_away_is_unavailable(self, ground: Ground) -> None:
        error = await ground.away.refusal(ground.uri(NAME))
        assert isinstance(error, Unavailable)
        assert error.reason == "Unavailable"

    async def test_a_source_that_asks_to_slow_down_is_asked_once_and_heard(self, ground: Ground) -> None:
        ground.publish(NAME, MODEL)
        with ground.in_trouble(429) as trouble:
            error = await trouble.access.refusal(ground.uri(NAME))
            assert trouble.asked() == 1
        assert isinstance(error, Unavailable)
        assert error.reason == "RateLimited"
        assert error.retry_after_seconds == (PAUSE_SECONDS if ground.tells_pauses else None)

    async def test_a_source_in_trouble_is_asked_once_and_listed_when_it_is_well(self, ground: Ground) -> None:
        ground.publish(NAME, MODEL)
        with ground.in_trouble(503) as trouble:
            error = await trouble.access.refusal(ground.uri(NAME))
            assert trouble.asked() == 1
        assert isinstance(error, Unavailable)
        assert error.reason == "Unavailable"
        assert (await ground.access.list(ground.uri(NAME))).files

    async def test_a_file_that_was_never_listed_is_not_there(self, ground: Ground, tmp_path: Path) -> None:
        ground.publish(NAME, MODEL)
        uri = ground.uri(NAME)
        manifest = await ground.access.list(uri)
        unknown = replace(manifest, files=(ManifestFile("unknown.bin", 10, ChecksumAlgorithm.SHA256, "0" * 64),))
        with pytest.raises((Missing, Corrupt)) as raised:
            await ground.access.fetch(uri, unknown, tmp_path / "root")
        assert raised.value.reason in ("NotFound", "Forbidden", "SourceChanged")

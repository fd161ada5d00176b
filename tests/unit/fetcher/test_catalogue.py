"""The folders of backends, and the schemes that the rest of the house knows, are held together."""

from pathlib import Path

import pytest

from libs.artifact.errors import InvalidValue
from libs.artifact.uri import SYNTAXES, Listing
from libs.chassis.errors import Invalid
from libs.chassis.settings import SettingsError
from services.fetcher.settings import SourceSettings
from services.fetcher.sources.catalogue import Sources, backends

SETTINGS = SourceSettings()


def test_each_scheme_that_is_listed_has_one_backend_and_no_other_has_any() -> None:
    served = sorted(scheme for backend in backends() for scheme in backend.schemes)
    assert served == sorted(syntax.scheme for syntax in SYNTAXES if syntax.listing is not Listing.NODE)


def test_a_scheme_that_no_folder_serves_is_refused_with_those_that_are() -> None:
    with Sources(SETTINGS) as sources:
        assert not sources.read_in_place("local:///models/x")
        with pytest.raises(Invalid, match=r"cannot fetch from local://, but from .*hf://") as refused:
            sources.list("local:///models/x", {}, {})
    assert refused.value.reason == "UnsupportedBackend"


async def test_a_parameter_that_is_not_known_is_refused_before_anything_is_asked() -> None:
    with Sources(SETTINGS) as sources:
        with pytest.raises(InvalidValue, match="write 'revision' if that is meant"):
            sources.list("hf://org/model", {"revison": "v1"}, {})
        with pytest.raises(InvalidValue, match="does not exist for gs://"):
            await sources.origin("gs://bucket/x", {"region": "eu"}, {}, "")


def test_a_vendor_is_read_in_place_unless_the_operator_has_a_driver_for_it(tmp_path: Path) -> None:
    drivers = tmp_path / "drivers.json"
    drivers.write_text('{"acme": {"driver": "http", "index": "https://acme.example/{path}"}}')
    configured = SourceSettings(vendor_drivers_file=drivers)
    with Sources(configured) as sources:
        assert not sources.read_in_place("vendor://acme/models/x")
        assert sources.read_in_place("vendor://nvidia/models/x")
    drivers.write_text("{")
    with pytest.raises(SettingsError):
        Sources(configured)

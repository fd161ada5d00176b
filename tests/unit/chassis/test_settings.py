"""Settings: read from the environment, every bad variable named at once."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from libs.chassis.settings import SettingsError, load_settings, setting


@dataclass(frozen=True, kw_only=True)
class Sample:
    address: str = setting(help="where to listen")
    workers: int = setting(4, help="how many", minimum=1)
    delay_seconds: float = setting(1.5, help="how long", minimum=0)
    verbose: bool = setting(False, help="say more")
    folder: Path = setting(Path("/tmp"), help="where")
    roots: tuple[str, ...] = setting(("/models",), help="which")
    ca_file: Path | None = setting(None, help="whom to trust")
    level: str = setting("info", help="how much", choices=("info", "debug"))
    endpoint: str = setting("", name="HF_ENDPOINT", help="which hub")


def test_variables_become_typed_fields() -> None:
    environ = {
        "OME_ADDRESS": "host:1",
        "OME_WORKERS": "2",
        "OME_DELAY_SECONDS": "0.25",
        "OME_VERBOSE": "true",
        "OME_FOLDER": "/data",
        "OME_ROOTS": "/a, /b",
        "OME_CA_FILE": "/ca.pem",
        "OME_LEVEL": "debug",
        "HF_ENDPOINT": "http://hub",
    }
    expected = Sample(
        address="host:1",
        workers=2,
        delay_seconds=0.25,
        verbose=True,
        folder=Path("/data"),
        roots=("/a", "/b"),
        ca_file=Path("/ca.pem"),
        level="debug",
        endpoint="http://hub",
    )
    assert load_settings(Sample, environ) == expected


def test_empty_variable_counts_as_unset() -> None:
    assert load_settings(Sample, {"OME_ADDRESS": "x", "OME_WORKERS": ""}).workers == 4


def test_every_bad_variable_is_reported_at_once() -> None:
    environ = {"OME_WORKERS": "0", "OME_DELAY_SECONDS": "nan", "OME_VERBOSE": "maybe", "OME_LEVEL": "loud"}
    with pytest.raises(SettingsError) as refused:
        load_settings(Sample, environ)
    said = "\n".join(refused.value.problems)
    assert len(refused.value.problems) == 5
    for words in ("OME_ADDRESS is not set", "at least 1", "finite", "true or false", "info, debug"):
        assert words in said

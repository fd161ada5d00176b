"""The checks of the audit that need nothing but the checkout find nothing."""

import pytest

from tests.unit.repo.checkout import ROOT
from tools.audit import keys, licences, permissions
from tools.audit.__main__ import locked, main
from tools.audit.checkout import tracked_files


def test_no_file_holds_a_key() -> None:
    assert keys.check(tracked_files(), ROOT) == []


def test_every_distribution_in_the_images_has_a_licence_of_the_list() -> None:
    names = licences.required((ROOT / "3rdparty" / "python" / "requirements.in").read_text().splitlines())

    assert {"aiohttp", "oci", "yarl"} <= set(names)
    assert licences.check(names) == []


def test_the_audit_says_for_each_module_what_it_asks_of_kubernetes() -> None:
    assert permissions.check_code(permissions.service_sources(ROOT)) == []


def test_the_command_says_what_it_could_not_check_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vulnerabilities", "keys", "--osv", "http://127.0.0.1:9"]) == 0

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("vulnerabilities: not checked, because http://127.0.0.1:9 does not answer")


def test_both_halves_of_an_image_are_looked_up() -> None:
    found = {(pin.ecosystem, pin.name) for pin in locked()}

    assert {("PyPI", "aiohttp"), ("PyPI", "ruff"), ("Debian:12", "glibc"), ("Debian:12", "openssl")} <= found
    assert len({pin.lock for pin in locked()}) == len(list((ROOT / "3rdparty" / "python").glob("*.lock")))


def test_a_check_that_there_is_not_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["everything"])

    assert "there is no check everything" in capsys.readouterr().err

"""The checks of the audit that need nothing but the checkout find nothing."""

from tests.unit.repo.checkout import ROOT
from tools.audit import keys, licences, permissions
from tools.audit.checkout import tracked_files


def test_no_file_holds_a_key() -> None:
    assert keys.check(tracked_files(), ROOT) == []


def test_every_distribution_in_the_images_has_a_licence_of_the_list() -> None:
    names = licences.required((ROOT / "3rdparty" / "python" / "requirements.in").read_text().splitlines())

    assert {"aiohttp", "oci", "yarl"} <= set(names)
    assert licences.check(names) == []


def test_the_audit_says_for_each_module_what_it_asks_of_kubernetes() -> None:
    assert permissions.check_code(permissions.service_sources(ROOT)) == []

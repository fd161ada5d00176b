"""The locks hold what the inputs ask for, with hashes and without naming where it is downloaded."""

import re

import pytest

from tests.unit.repo.checkout import ROOT

FOLDER = ROOT / "3rdparty" / "python"
INPUTS = {
    "browser.lock": ["browser.in"],
    "data.lock": ["data.in"],
    "docs.lock": ["docs.in"],
    "default.lock": ["requirements.in", "stubs.in", "tests.in"],
    "lint.lock": ["lint.in"],
    "pants.lock": ["pants.in"],
    "pytest.lock": ["pytest.in"],
    "tools.lock": ["tools.in"],
}
NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)", re.MULTILINE)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", (FOLDER / lock).read_text(), re.MULTILINE)
    return {canonical(name): version for name, version in found}


def test_every_lock_has_its_inputs_listed_here() -> None:
    assert {path.name for path in FOLDER.glob("*.lock")} == set(INPUTS)
    assert {path.name for path in FOLDER.glob("*.in")} == {name for names in INPUTS.values() for name in names}


@pytest.mark.parametrize("lock", INPUTS)
def test_lock_holds_every_requirement_of_its_inputs(lock: str) -> None:
    wanted = {canonical(name) for source in INPUTS[lock] for name in NAME.findall((FOLDER / source).read_text())}
    assert wanted <= set(pins(lock)), "run `make locks`"


@pytest.mark.parametrize("lock", INPUTS)
def test_lock_has_a_hash_for_every_pin_and_names_no_host(lock: str) -> None:
    text = (FOLDER / lock).read_text()
    for entry in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in entry, entry
    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text


def test_locks_of_one_environment_agree() -> None:
    versions: dict[str, set[str]] = {}
    for lock in ("default.lock", "lint.lock", "pytest.lock", "tools.lock"):
        for name, version in pins(lock).items():
            versions.setdefault(name, set()).add(version)
    assert not {name: found for name, found in versions.items() if len(found) > 1}

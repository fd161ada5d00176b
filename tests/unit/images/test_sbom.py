"""The bill of an image names what its layers hold, and the same image has the same bill."""

import json
from pathlib import Path

import pytest

from tests.unit.images.debs import package
from tools.images import layout, sbom

RECORD = "Package: libssl3\nVersion: 3.0-1+b2\nArchitecture: amd64\n"
METADATA = "Metadata-Version: 2.4\nName: Six.Words\nVersion: 1.17\nLicense-Expression: MIT\n\nLicense: GPL\n"
PINNED = package(b"content", "libssl3", "3.0-1+b2")


def image(folder: Path) -> bytes:
    """An image of two layers: a package below, two distributions above it."""
    files = {
        "below/var/lib/dpkg/status.d/libssl3": RECORD,
        "above/app/lib/python3.11/site-packages/six_words-1.17.dist-info/METADATA": METADATA,
        "above/app/lib/python3.11/site-packages/bare-1.dist-info/METADATA": "Name: bare\nVersion: 1\n",
        "above/app/lib/python3.11/site-packages/six_words/METADATA": "Name: no distribution\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    layers = [layout.layer(folder / name, name) for name in ("below", "above")]
    return layout.archive(layers, {}, "2026-01-02T03:04:05Z", "x/y:1", "amd64")


def test_a_bill_names_packages_and_distributions_with_what_is_known_of_them(tmp_path: Path) -> None:
    bill = json.loads(sbom.document(image(tmp_path), "x/y:1", [PINNED]))

    found = {component["purl"]: component for component in bill["components"]}
    debian = "pkg:deb/debian/libssl3@3.0-1%2Bb2?arch=amd64&distro=debian-12"
    assert set(found) == {debian, "pkg:pypi/six-words@1.17", "pkg:pypi/bare@1"}
    assert found[debian]["hashes"] == [{"alg": "SHA-256", "content": PINNED.sha256}]
    assert found["pkg:pypi/six-words@1.17"]["licenses"] == [{"expression": "MIT"}]
    assert "licenses" not in found["pkg:pypi/bare@1"]
    assert bill["metadata"]["timestamp"] == "2026-01-02T03:04:05Z"
    assert bill["metadata"]["component"]["name"] == "x/y"


def test_the_same_image_has_the_same_bill(tmp_path: Path) -> None:
    one, other = (sbom.document(image(tmp_path / name), "x/y:1", [PINNED]) for name in ("one", "other"))

    assert one == other


def test_a_package_that_the_lock_does_not_pin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(sbom.Unrecorded, match=r"libssl3 3\.0-1\+b2, which .* does not pin"):
        sbom.document(image(tmp_path), "x/y:1", [package(b"content", "libssl3", "3.0-1")])

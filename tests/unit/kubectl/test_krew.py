"""What krew is given: a manifest by its documented rules, and an archive that holds what the manifest names."""

import hashlib
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.krew import BINARY, NAME, archive, main, manifest

URI = "https://example.com/ome-models.tar.gz"
# https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest: fields, and for each whether it may be left out.
SPEC = {
    "version": True,
    "platforms": True,
    "shortDescription": True,
    "description": False,
    "homepage": False,
    "caveats": False,
}
PLATFORM = {"selector": True, "uri": True, "sha256": True, "bin": True, "files": False}
# https://semver.org, with the letter that krew asks for.
VERSION = re.compile(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


def faults(document: dict[str, Any]) -> list[str]:
    """What krew refuses about a manifest."""
    found = []
    if (document["apiVersion"], document["kind"]) != ("krew.googlecontainertools.github.com/v1alpha2", "Plugin"):
        found.append("kind")
    if not re.fullmatch(r"[\w-]+", document["metadata"]["name"]):
        found.append("name")
    spec = document["spec"]
    found += [name for name, needed in SPEC.items() if needed and not spec.get(name)]
    found += sorted(spec.keys() - SPEC.keys())
    if not VERSION.fullmatch(spec["version"]):
        found.append("version")
    if re.search(r"[\r\n]", spec["shortDescription"]) or len(spec["shortDescription"]) > 50:
        found.append("shortDescription")
    for platform in spec["platforms"]:
        found += [name for name, needed in PLATFORM.items() if needed and not platform.get(name)]
        found += sorted(platform.keys() - PLATFORM.keys())
        if not re.fullmatch(r"[a-f0-9]{64}", platform["sha256"]):
            found.append("sha256")
        if platform["selector"].keys() != {"matchLabels"} or not platform["selector"]["matchLabels"]:
            found.append("selector")
        found += sorted(platform["selector"]["matchLabels"].keys() - {"os", "arch"})
        if "files" in platform and not all(each.get("from") and each.get("to") for each in platform["files"]):
            found.append("files")
    return found


def test_the_manifest_keeps_to_the_rules_of_krew() -> None:
    assert faults(manifest(URI, "a" * 64)) == []
    assert {each["selector"]["matchLabels"]["os"] for each in manifest(URI, "a" * 64)["spec"]["platforms"]} == {
        "linux",
        "darwin",
    }


def test_a_manifest_that_breaks_the_rules_would_be_noticed() -> None:
    assert faults(manifest("", "A" * 64, "1")) == ["version", "uri", "sha256", "uri", "sha256"]


def test_the_archive_holds_the_plugin_and_the_manifest_names_its_digest(tmp_path: Path) -> None:
    plugin, licence = tmp_path / BINARY, tmp_path / "LICENSE"
    plugin.write_text("#!/usr/bin/env python3\n")
    licence.write_text("text")
    given = ["--plugin", str(plugin), "--licence", str(licence), "--out", str(tmp_path / "out"), "--uri", URI]
    assert main(given) == 0
    packed = tmp_path / "out" / f"{NAME}.tar.gz"
    document = yaml.safe_load((tmp_path / "out" / f"{NAME}.yaml").read_text())
    assert faults(document) == []
    [platform, _] = document["spec"]["platforms"]
    assert platform["sha256"] == hashlib.sha256(packed.read_bytes()).hexdigest()
    with tarfile.open(packed) as tar:
        modes = {member.name: member.mode for member in tar.getmembers()}
    assert modes == {BINARY: 0o755, "LICENSE": 0o644}
    assert {each["from"] for each in platform["files"]} == modes.keys()
    assert platform["bin"] == BINARY == f"kubectl-{NAME.replace('-', '_')}"


def test_the_same_plugin_is_the_same_archive() -> None:
    assert archive({BINARY: b"x", "LICENSE": b"y"}) == archive({"LICENSE": b"y", BINARY: b"x"})


def test_without_the_plugin_nothing_is_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--plugin", str(tmp_path / "absent"), "--uri", URI, "--out", str(tmp_path / "out")]) == 1
    assert "make package" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

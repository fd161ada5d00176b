"""What documents tell people to write is accepted by the programs that read it: manifests, values and flags."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from libs.artifact.uri import SCHEMES
from tests.support.apiserver import ApiServer, policies_enforced, running_api_server
from tests.support.programs import CHARTS, ROOT, image_values, run
from tests.unit.repo.checkout import files
from tests.unit.repo.commands import Command, commands

pytestmark = pytest.mark.cluster

_YAML = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Verbs of kubectl that have verbs of their own.
_WITH_VERBS = {"create", "rollout", "auth", "secret"}
# Plugins of kubectl: ours is held against its own parser, and krew is not among the programs of the cluster.
_PLUGINS = {"krew", "ome-models"}
_OURS = "ome.io/"


def blocks() -> Iterator[tuple[str, list[Any]]]:
    """Each block of YAML of the documents: where it stands, and its parts."""
    for document in files("*.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        for match in _YAML.finditer(text):
            place = f"{document}:{text[: match.start()].count(chr(10)) + 1}"
            yield place, [part for part in yaml.safe_load_all(match[1]) if part]


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each manifest of the documents that a cluster with OME alone can take."""
    for place, parts in blocks():
        for part in parts:
            if isinstance(part, dict) and {"apiVersion", "kind", "metadata"} <= part.keys():
                group = part["apiVersion"].partition("/")[0] if "/" in part["apiVersion"] else ""
                if not group or group.endswith(".k8s.io") or part["apiVersion"].startswith(_OURS):
                    yield place, part


def values() -> Iterator[tuple[str, dict[str, Any], str]]:
    """Each block of values, with a chart that has all of its keys."""
    known = {
        path.parent.name: set(json.loads(path.read_text())["properties"])
        for path in CHARTS.glob("*/values.schema.json")
    }
    for place, parts in blocks():
        for part in parts:
            if isinstance(part, dict) and "apiVersion" not in part:
                for chart in ("fetcher", "controller", "status", "parser", "nats"):
                    if part.keys() <= known[chart]:
                        yield place, part, chart
                        break


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    """An API server with the definitions, and with each namespace that a manifest names."""
    async with running_api_server(tmp_path_factory.mktemp("apiserver")) as running:
        named = {part["metadata"].get("namespace") or "default" for _, part in manifests()} - {"default"}
        for name in sorted(named):
            await running.kube.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        for name in ("default", *sorted(named)):
            # What the controller manager would do, without which no Pod is admitted.
            account = f"/api/v1/namespaces/{name}/serviceaccounts"
            await running.kube.request("POST", account, {"metadata": {"name": "default"}})
        crds = ["helm", "install", "ome-crds", str(CHARTS / "crds")]
        await asyncio.to_thread(run, *crds, KUBECONFIG=str(running.kubeconfig))
        await policies_enforced(running.kube)
        yield running


@pytest.mark.asyncio(loop_scope="module")
async def test_every_manifest_of_the_documents_is_admitted(server: ApiServer, tmp_path: Path) -> None:
    found = list(manifests())
    assert len(found) > 40
    refused = []
    for place, manifest in found:
        file = tmp_path / "manifest.yaml"
        # What stands for a name of the reader's own.
        file.write_text(yaml.safe_dump(manifest).replace("NODE", "node-1"))
        command = ["create", "--validate=strict", "--dry-run=server", "-f", str(file)]
        kubeconfig = ["--kubeconfig", str(server.kubeconfig)]
        ended = await asyncio.to_thread(run, "kubectl", *kubeconfig, *command, check=False)
        if ended.returncode != 0:
            refused.append(f"{place}: {ended.stderr.strip()}")
    assert not refused, "\n".join(refused)


def test_every_source_has_a_complete_example() -> None:
    examples = [part for place, part in manifests() if place.startswith("docs/guides/sources.md")]
    uris = [part["spec"]["storage"]["storageUri"] for part in examples if part["apiVersion"].startswith(_OURS)]
    assert {uri.partition("://")[0] for uri in uris} == set(SCHEMES)
    secrets = {part["metadata"]["name"] for part in examples if part["kind"] == "Secret"}
    named = {part["spec"]["storage"].get("storageKey") for part in examples if part["apiVersion"].startswith(_OURS)}
    assert secrets == named - {None}


def test_every_block_of_values_is_taken_by_its_chart(tmp_path: Path) -> None:
    refused, seen = [], 0
    for place, part, chart in values():
        seen += 1
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(part))
        ended = run("helm", "template", "x", str(CHARTS / chart), *image_values(chart), "-f", str(file), check=False)
        if ended.returncode != 0:
            refused.append(f"{place} ({chart}): {ended.stderr.strip()}")
    assert seen > 10
    assert not refused, "\n".join(refused)


@cache
def flags_of(program: str, *verbs: str) -> str:
    """What a program says of the flags of a verb."""
    told = run(program, *verbs, "--help").stdout
    return told + run(program, "options").stdout if program == "kubectl" else told


def verbs_of(command: Command) -> list[str]:
    """The verbs of a command: one, or more where the first has verbs of its own."""
    verbs = [command.words[1]]
    while command.program == "kubectl" and verbs[-1] in _WITH_VERBS and verbs[0] in _WITH_VERBS:
        verbs.append(command.words[len(verbs) + 1])
    return verbs


@pytest.mark.parametrize("program", ["kubectl", "helm"])
def test_every_flag_of_the_documents_is_known_to_the_program(program: str) -> None:
    used = [each for each in commands() if each.program == program and each.words[1] not in _PLUGINS]
    assert len(used) > 10
    unknown = []
    for command in used:
        told = flags_of(program, *verbs_of(command))
        unknown += [
            f"{command}: {flag}" for flag in command.flags if not re.search(rf"(^|[\s,]){re.escape(flag)}\b", told)
        ]
    assert not unknown, "\n".join(unknown)

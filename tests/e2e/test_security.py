"""What the containers of the charts really are, read from the node's /proc and not from their manifests."""

from pathlib import Path

import pytest

from tests.support.installation import NAMESPACE, Installation

SERVICES = ("controller", "fetcher", "nats", "parser", "resolver", "status")
_CAPABILITIES = ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")
# Seccomp in /proc/<pid>/status: a filter is in force.
_FILTERED = "2"


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("service", SERVICES)
def test_a_process_has_no_capability_a_filter_and_no_way_to_more(ome: Installation, service: str) -> None:
    found = [status_of(pid) for pid in ome.processes(service)]
    assert found
    for status in found:
        assert [int(status[name], 16) for name in _CAPABILITIES] == [0] * len(_CAPABILITIES)
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == _FILTERED


@pytest.mark.parametrize("service", SERVICES)
def test_a_process_is_root_only_where_it_writes_to_the_node(ome: Installation, service: str) -> None:
    users = {tuple(status_of(pid)["Uid"].split()) for pid in ome.processes(service)}
    user = "0" if service == "fetcher" else "65532"
    assert users == {(user,) * 4}


@pytest.mark.parametrize("service", SERVICES)
def test_the_root_file_system_cannot_be_written(ome: Installation, service: str) -> None:
    for pid in ome.processes(service):
        mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
        [options] = [fields[5].split(",") for fields in mounts if fields[4] == "/"]
        assert "ro" in options


@pytest.mark.parametrize("service", ["fetcher", "nats", "parser", "resolver"])
def test_what_needs_no_kubernetes_has_no_token_for_it(ome: Installation, service: str) -> None:
    for pid in ome.processes(service):
        folders = [line.split()[4] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
        assert not [folder for folder in folders if "serviceaccount" in folder]


def test_only_the_fetcher_asks_for_more_than_restricted(ome: Installation) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    said = ome.cluster.warnings("label", "namespace", NAMESPACE, label, "--overwrite", "--dry-run=server")
    assert [service for service in SERVICES if f"ome-{service}-" in said] == ["fetcher"]

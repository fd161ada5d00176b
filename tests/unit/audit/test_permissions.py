"""What the charts grant and what the code asks of the Kubernetes API are held against each other, both ways."""

from typing import Any

import pytest

from tools.audit import permissions

IMPORT = "from libs.chassis.kube import KubeClient\n"
VERBS = {
    "a get": ("client.get(path)", {"get"}),
    "a listing": ("self._client.pages(path)", {"list"}),
    "a watch": ("async with kube.watch(path, '7') as events: pass", {"watch"}),
    "a Reflector": ("Reflector(path, 'nodes', health)", {"list", "watch"}),
    "a creation": ("await self._kube.request('POST', path, body)", {"create"}),
    "an update through a function": ("self._write('PUT', path)", {"update"}),
    "a patch": ("client.request('PATCH', path, body)", {"patch"}),
    "a deletion": ("client.request('DELETE', path)", {"delete"}),
    "a get of something else": ("fields.get('name')", set()),
    "nothing": ("pass", set()),
}
ROLE: dict[str, Any] = {
    "kind": "Role",
    "metadata": {"name": "ome-x", "namespace": "ome"},
    "rules": [{"apiGroups": [""], "resources": ["pods", "configmaps"], "verbs": ["list"]}],
}
CLUSTER_ROLE: dict[str, Any] = {
    "kind": "ClusterRole",
    "metadata": {"name": "ome-x"},
    "rules": [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create"]}],
}
SUBJECT = {"kind": "ServiceAccount", "name": "ome-x", "namespace": "ome"}
BINDINGS = [
    {
        "kind": "RoleBinding",
        "metadata": {"name": "ome-x", "namespace": "ome"},
        "roleRef": {"kind": "Role", "name": "ome-x"},
        "subjects": [SUBJECT],
    },
    {
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "ome-x"},
        "roleRef": {"kind": "ClusterRole", "name": "ome-x"},
        "subjects": [SUBJECT],
    },
]
OBJECTS = [ROLE, CLUSTER_ROLE, *BINDINGS]
USED: dict[str, frozenset[str]] = {
    "pods": frozenset({"list"}),
    "configmaps": frozenset({"list"}),
    "batch/jobs": frozenset({"create"}),
}


@pytest.mark.parametrize(("line", "verbs"), VERBS.values(), ids=VERBS)
def test_the_verbs_of_a_module_are_read_from_its_code(line: str, verbs: set[str]) -> None:
    assert permissions.verbs_of(f"{IMPORT}async def use():\n    {line}\n") == verbs


def test_a_module_that_does_not_know_the_client_uses_no_verb() -> None:
    assert permissions.verbs_of("async def use():\n    await client.request('POST', path)\n") == set()


def test_rights_that_are_all_used_are_no_finding() -> None:
    assert permissions.check_charts(OBJECTS, {"a.py": (("ome-x",), USED)}) == []


@pytest.mark.parametrize("resource", USED)
def test_a_right_that_no_code_uses_is_a_finding(resource: str) -> None:
    uses = {key: verbs for key, verbs in USED.items() if key != resource}

    [found] = permissions.check_charts(OBJECTS, {"a.py": (("ome-x",), uses)})

    assert found.subject == "ome-x"
    assert f" of {resource}, which no code uses" in found.message


def test_a_use_that_no_chart_grants_is_a_finding() -> None:
    uses = USED | {"secrets": frozenset({"get"})}

    [found] = permissions.check_charts(OBJECTS, {"a.py": (("ome-x",), uses)})

    assert found.message == "a.py needs get of secrets, which no chart grants"


def test_a_wildcard_is_a_right_that_no_code_uses() -> None:
    every = {**ROLE, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}

    found = permissions.check_charts([every, *BINDINGS], {})

    assert [each.message for each in found] == ["its chart grants * of */*, which no code uses"]


def test_a_module_that_asks_for_more_than_is_said_of_it_is_a_finding() -> None:
    source = f"{IMPORT}async def use():\n    await client.request('DELETE', path)\n"

    [unknown] = permissions.check_code({"services/new.py": source}, {})
    [stale] = permissions.check_code({}, {"services/old.py": (("ome-x",), USED)})

    assert (unknown.subject, stale.subject) == ("services/new.py", "services/old.py")
    assert "it uses delete" in unknown.message
    assert "it uses no verb" in stale.message

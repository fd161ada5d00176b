"""Holds the rights that the charts grant in Kubernetes against the requests that the code makes, both ways.

Which verbs a module uses is read from its code. Which resources they are for is not written in the code as such, so
`USES` says it for each module; a module that asks for other verbs than it says there is a finding.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tools.audit.finding import Finding

# Verbs by resource: group/plural, or the plural alone in the core group.
Rights = Mapping[str, frozenset[str]]

CONTROLLER, STATUS, NATS_SECRETS = "ome-controller", "ome-status", "ome-nats-secrets"
_MODELS = ("ome.io/basemodels", "ome.io/clusterbasemodels", "ome.io/finetunedweights")
_FOLLOW = frozenset({"list", "watch"})
_CREATE = frozenset({"create"})
_PATCH = frozenset({"patch"})

# Module → (the accounts as which it runs, what it does).
USES: Mapping[str, tuple[tuple[str, ...], Rights]] = {
    "libs/chassis/leadership.py": (
        (CONTROLLER, STATUS),
        {"coordination.k8s.io/leases": _FOLLOW | {"create", "update"}},
    ),
    "services/controller/authorization.py": ((CONTROLLER,), {"authentication.k8s.io/tokenreviews": _CREATE}),
    "services/controller/first_secrets.py": ((NATS_SECRETS,), {"secrets": _CREATE}),
    "services/controller/kube.py": (
        (CONTROLLER,),
        {
            **dict.fromkeys(_MODELS, _PATCH),
            "secrets": frozenset({"get"}),
            "batch/jobs": frozenset({"create", "get", "delete"}),
            "pods": _PATCH,
            "events.k8s.io/events": _CREATE,
        },
    ),
    "services/controller/gate_watch.py": ((CONTROLLER,), {"pods": _FOLLOW}),
    "services/controller/service_watch.py": ((CONTROLLER,), {"ome.io/inferenceservices": _FOLLOW}),
    "services/controller/main.py": ((CONTROLLER,), {**dict.fromkeys(_MODELS, _FOLLOW), "nodes": _FOLLOW}),
    "services/controller/pod_watch.py": ((CONTROLLER,), {"pods": _FOLLOW}),
    "services/controller/volume_watch.py": (
        (CONTROLLER,),
        {"persistentvolumeclaims": _FOLLOW, "batch/jobs": _FOLLOW, "pods": _FOLLOW},
    ),
    "services/status/callers.py": (
        (STATUS,),
        {"authentication.k8s.io/tokenreviews": _CREATE, "authorization.k8s.io/subjectaccessreviews": _CREATE},
    ),
    "services/status/cluster.py": (
        (STATUS,),
        {
            **dict.fromkeys(_MODELS, _FOLLOW),
            "nodes": _FOLLOW,
            "configmaps": _FOLLOW,
            "ome.io/inferenceservices": _FOLLOW,
        },
    ),
    "services/status/kube.py": (
        (STATUS,),
        {
            **dict.fromkeys(_MODELS, _PATCH),
            **dict.fromkeys((f"{model}/status" for model in _MODELS), _PATCH),
            "nodes": _PATCH,
            "ome.io/inferenceservices/status": _PATCH,
            # Server-side apply creates what does not exist.
            "configmaps": frozenset({"create", "patch", "delete"}),
            "events.k8s.io/events": _CREATE,
        },
    ),
    # As the person who confirms it on the page, by that person's token: no account of ours needs a right for it.
    "services/status/page/acting.py": ((), dict.fromkeys(_MODELS, _PATCH)),
}
# These send what others ask them to.
_CLIENT = ("libs/chassis/kube.py", "libs/chassis/reflector.py")
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_METHODS = {"get": "get", "pages": "list", "watch": "watch"}
_CLIENT_NAMES = ("client", "kube", "_client", "_kube")


def verbs_of(source: str) -> set[str]:
    """The verbs that a module uses: from its calls of the client, its Reflectors, and names of HTTP methods.

    Empty for a module that imports neither the client nor the Reflector.
    """
    tree = ast.parse(source)
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    if not imported & {"libs.chassis.kube", "libs.chassis.reflector"}:
        return set()
    return {verb for node in ast.walk(tree) if isinstance(node, ast.Call) for verb in _verbs_of_call(node)}


def _verbs_of_call(call: ast.Call) -> Iterator[str]:
    match call.func:
        case ast.Name("Reflector"):
            yield from _FOLLOW
        case ast.Attribute(ast.Name(name) | ast.Attribute(_, name), method) if name in _CLIENT_NAMES:
            if method in _METHODS:
                yield _METHODS[method]
    match call.args:
        case [ast.Constant(str(method)), *_] if method in _VERBS:
            yield _VERBS[method]


def check_code(sources: Mapping[str, str], uses: Mapping[str, tuple[tuple[str, ...], Rights]] = USES) -> list[Finding]:
    """A finding for each module, by path, whose verbs differ from what `uses` says of it."""
    found = []
    for path in sorted({*sources, *uses} - {*_CLIENT}):
        made = verbs_of(sources.get(path, ""))
        said = {verb for verbs in uses.get(path, ((), {}))[1].values() for verb in verbs}
        # Server-side apply is one request with the rights of two.
        if made == said or ("patch" in made and made | {"create"} == said):
            continue
        found.append(
            Finding(
                "permissions",
                path,
                f"it uses {_words(made)}, and tools/audit/permissions.py says {_words(said)}: correct USES there",
            )
        )
    return found


def granted(objects: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, set[str]]]:
    """The rights of each ServiceAccount in rendered charts."""
    everything = list(objects)
    rules = {
        (item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]): item.get("rules") or []
        for item in everything
        if item["kind"] in ("Role", "ClusterRole")
    }
    rights: dict[str, dict[str, set[str]]] = {}
    for item in everything:
        if item["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        kind, name = item["roleRef"]["kind"], item["roleRef"]["name"]
        namespace = item["metadata"].get("namespace") if kind == "Role" else None
        for subject in item["subjects"]:
            mine = rights.setdefault(subject["name"], {})
            for rule in rules.get((kind, namespace, name), []):
                for resource in _resources(rule):
                    mine.setdefault(resource, set()).update(rule["verbs"])
    return rights


def _resources(rule: Mapping[str, Any]) -> Iterator[str]:
    for group in rule.get("apiGroups") or [""]:
        for plural in rule.get("resources") or rule.get("nonResourceURLs") or []:
            yield f"{group}/{plural}" if group else plural


def check_charts(
    objects: Iterable[Mapping[str, Any]], uses: Mapping[str, tuple[tuple[str, ...], Rights]] = USES
) -> list[Finding]:
    """A finding for each right that no code uses, and for each use that no right permits."""
    needed: dict[tuple[str, str, str], str] = {}
    for path, (accounts, rights) in uses.items():
        for account in accounts:
            needed |= {(account, resource, verb): path for resource, verbs in rights.items() for verb in verbs}
    given = {
        (account, resource, verb)
        for account, rights in granted(objects).items()
        for resource, verbs in rights.items()
        for verb in verbs
    }
    unused = [
        Finding("permissions", account, f"its chart grants {verb} of {resource}, which no code uses")
        for account, resource, verb in given - set(needed)
    ]
    refused = [
        Finding("permissions", account, f"{path} needs {verb} of {resource}, which no chart grants")
        for (account, resource, verb), path in needed.items()
        if (account, resource, verb) not in given
    ]
    return sorted([*unused, *refused])


def service_sources(root: Path) -> dict[str, str]:
    """The text of each module of services and libraries by its path."""
    return {
        path.relative_to(root).as_posix(): path.read_text()
        for folder in ("libs", "services")
        for path in sorted((root / folder).rglob("*.py"))
    }


def _words(verbs: set[str]) -> str:
    return " ".join(sorted(verbs)) or "no verb"

"""Computes a container's variables as the kubelet does, and maps what a container sees onto this machine. Pure.

The mapping is what replaces namespaces: mount paths become folders of the Pod or the node, and names of Services become
loopback addresses, wherever they occur in variables and arguments.
"""

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Object = dict[str, Any]


class MissingReference(Exception):
    """The Pod names an object, or a key of one, that is not there (yet)."""


class Sources(Protocol):
    """Where ConfigMaps and Secrets come from; None when there is no such object."""

    def config_map(self, namespace: str, name: str) -> Object | None: ...

    def secret(self, namespace: str, name: str) -> Object | None: ...


@dataclass(frozen=True)
class Placement:
    """Where a Pod runs, in the addresses its process can use."""

    node: str
    pod_address: str
    node_address: str


def pod_field(pod: Object, path: str, placement: Placement) -> str:
    """The value of a downward API fieldRef (https://kubernetes.io/docs/concepts/workloads/pods/downward-api/)."""
    metadata, spec = pod["metadata"], pod["spec"]
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str(metadata.get(match[1], {}).get(match[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        entries = metadata.get(path.removeprefix("metadata."), {})
        return "\n".join(f'{key}="{value}"' for key, value in sorted(entries.items()))
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": placement.node,
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": placement.pod_address,
        "status.podIPs": placement.pod_address,
        "status.hostIP": placement.node_address,
        "status.hostIPs": placement.node_address,
    }
    if path not in known:
        raise MissingReference(f"the local cluster knows no Pod field {path!r}")
    return str(known[path])


def container_variables(
    pod: Object, container: Object, placement: Placement, sources: Sources, links: Mapping[str, str]
) -> dict[str, str]:
    """Variables in the kubelet's order of precedence: service links, envFrom, env; `$(NAME)` refers to earlier ones."""
    namespace = pod["metadata"]["namespace"]
    variables = dict(links)
    for entry in container.get("envFrom", []):
        for name, value in _whole_source(entry, namespace, sources).items():
            variables[entry.get("prefix", "") + name] = value
    for entry in container.get("env", []):
        if "valueFrom" in entry:
            found = _one_value(entry["valueFrom"], pod, placement, sources)
            if found is not None:
                variables[entry["name"]] = found
        else:
            variables[entry["name"]] = expand(entry.get("value", ""), variables)
    return variables


def _whole_source(entry: Object, namespace: str, sources: Sources) -> dict[str, str]:
    for field, find, decode in (
        ("configMapRef", sources.config_map, _plain),
        ("secretRef", sources.secret, _decoded),
    ):
        if reference := entry.get(field):
            found = find(namespace, reference["name"])
            if found is None:
                if reference.get("optional"):
                    return {}
                raise MissingReference(f"{field} {namespace}/{reference['name']} not found")
            return {key: decode(value) for key, value in found.get("data", {}).items()}
    return {}


def _one_value(source: Object, pod: Object, placement: Placement, sources: Sources) -> str | None:
    if field := source.get("fieldRef"):
        return pod_field(pod, field["fieldPath"], placement)
    namespace = pod["metadata"]["namespace"]
    for kind, find, decode in (
        ("configMapKeyRef", sources.config_map, _plain),
        ("secretKeyRef", sources.secret, _decoded),
    ):
        if reference := source.get(kind):
            found = find(namespace, reference["name"])
            value = None if found is None else found.get("data", {}).get(reference["key"])
            if value is not None:
                return decode(value)
            if reference.get("optional"):
                return None
            raise MissingReference(f"{kind} {namespace}/{reference['name']}, key {reference['key']!r}, not found")
    raise MissingReference(f"the local cluster cannot take a variable from {', '.join(source)}")


def _plain(value: str) -> str:
    return value


def _decoded(value: str) -> str:
    return base64.b64decode(value).decode()


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)`; an unknown name stays as it is and `$$` is a literal dollar, as Kubernetes defines it."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([-._a-zA-Z0-9]+)\)", replace, text)


def service_links(services: Iterable[Object], address_of: Callable[[str, str], str]) -> dict[str, str]:
    """The NAME_SERVICE_HOST and NAME_SERVICE_PORT variables of a namespace's Services."""
    variables: dict[str, str] = {}
    for service in services:
        metadata, spec = service["metadata"], service["spec"]
        if spec.get("clusterIP", "None") == "None" or not spec.get("ports"):
            continue
        prefix = metadata["name"].upper().replace("-", "_")
        address, port = address_of(metadata["namespace"], metadata["name"]), spec["ports"][0]["port"]
        variables |= {
            f"{prefix}_SERVICE_HOST": address,
            f"{prefix}_SERVICE_PORT": str(port),
            f"{prefix}_PORT": f"tcp://{address}:{port}",
        }
    return variables


@dataclass(frozen=True)
class Mounted:
    """A volume as it lies on this machine; `host_path` is set when it is a directory of the node."""

    folder: Path
    host_path: str | None = None


def path_mapping(mounts: Sequence[Object], volumes: Mapping[str, Mounted], node_root: Path) -> dict[str, str]:
    """Where the paths that a container sees really are.

    A hostPath H mounted at P + H makes P the node's root folder, so that a program which is told P (`/host`) and the
    paths as the node sees them finds them there, as it would in a real container.
    """
    mapping: dict[str, str] = {}
    for mount in mounts:
        volume, path = volumes[mount["name"]], mount["mountPath"].rstrip("/") or "/"
        host_path = (volume.host_path or "").rstrip("/")
        prefix = path.removesuffix(host_path)
        if host_path and prefix != path and prefix:
            mapping[prefix] = str(node_root)
        else:
            mapping[path] = str(volume.folder / mount["subPath"]) if mount.get("subPath") else str(volume.folder)
    return mapping


def rewrite_paths(text: str, mapping: Mapping[str, str]) -> str:
    """Replace each mapped path, and paths below it, wherever one begins at a word's start; the longest match wins."""
    if not mapping:
        return text
    paths = "|".join(re.escape(path) for path in sorted(mapping, key=len, reverse=True))
    return re.sub(rf"(?<![^\s,:;=])(?:{paths})(?=$|[/\s,:;])", lambda match: mapping[match[0]], text)


_LABEL = r"([a-z0-9](?:[-a-z0-9]*[a-z0-9])?)"
_SERVICE_NAME = re.compile(rf"(?<![\w.-]){_LABEL}\.{_LABEL}\.svc(?:\.cluster\.local)?(?![\w.-])")


def rewrite_names(text: str, address_of: Callable[[str, str], str]) -> str:
    """Replace <service>.<namespace>.svc by `address_of(namespace, service)`: nothing here answers the cluster's DNS."""

    def replace(match: re.Match[str]) -> str:
        service, namespace = match[1], match[2]
        if (namespace, service) == ("default", "kubernetes"):
            return match[0]
        return address_of(namespace, service)

    return _SERVICE_NAME.sub(replace, text)

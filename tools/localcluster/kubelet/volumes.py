"""Makes a Pod's volumes real: folders and files of the Pod or the node, kept current as their sources change."""

import base64
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from libs.chassis.kube import KubeClient
from tools.localcluster.kube import until_reachable
from tools.localcluster.kubelet.environment import MissingReference, Mounted, Object, Placement, Sources, pod_field

# The kubelet renews a token when this part of its life is over.
_RENEW_AT = 0.8
_DEFAULT_TOKEN_SECONDS = 3600


@dataclass(frozen=True)
class File:
    path: str
    content: bytes
    mode: int


@dataclass(frozen=True)
class _Token:
    content: bytes
    renew_at: float


class Volumes:
    """All volumes of one Pod."""

    def __init__(
        self,
        pod: Object,
        placement: Placement,
        *,
        kube: KubeClient,
        sources: Sources,
        pod_folder: Path,
        node_root: Path,
    ) -> None:
        self._pod = pod
        self._placement = placement
        self._kube = kube
        self._sources = sources
        self._folder = pod_folder / "volumes"
        self._node_root = node_root
        self._tokens: dict[tuple[str, int], _Token] = {}
        self.mounted: dict[str, Mounted] = {}

    async def mount(self) -> None:
        """Bring every volume up to date; raises MissingReference while something is not there. Idempotent."""
        for volume in self._pod["spec"].get("volumes", []):
            self.mounted[volume["name"]] = await self._mount(volume)

    def seconds_to_renewal(self) -> float | None:
        """When `mount` has to be called again because a token gets old; None if there is no token."""
        times = [token.renew_at for token in self._tokens.values()]
        return max(0.0, min(times) - time.monotonic()) if times else None

    async def _mount(self, volume: Object) -> Mounted:
        folder = self._folder / volume["name"]
        if host_path := volume.get("hostPath"):
            return self._mount_host_path(host_path["path"], host_path.get("type", ""))
        if claim := volume.get("persistentVolumeClaim"):
            return await self._mount_claim(claim["claimName"])
        folder.mkdir(parents=True, exist_ok=True)
        if "emptyDir" not in volume:
            files = [file for source in _file_sources(volume) for file in await self._files(source)]
            _write_files(folder, files)
        return Mounted(folder)

    def _mount_host_path(self, path: str, kind: str) -> Mounted:
        folder = self._node_root / path.lstrip("/")
        if kind == "DirectoryOrCreate":
            folder.mkdir(parents=True, exist_ok=True)
        elif kind == "FileOrCreate":
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.touch()
        elif kind and not folder.exists():
            raise MissingReference(f"hostPath type check failed: {path} is not a {kind}")
        return Mounted(folder, path)

    async def _mount_claim(self, name: str) -> Mounted:
        namespace = self._pod["metadata"]["namespace"]
        path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}"
        claim = await until_reachable(lambda: self._kube.get(path))
        volume_name = claim["spec"].get("volumeName")
        if not volume_name:
            raise MissingReference(f"persistentVolumeClaim {name} is not bound")
        volume = await until_reachable(lambda: self._kube.get(f"/api/v1/persistentvolumes/{volume_name}"))
        host_path = (volume["spec"].get("hostPath") or volume["spec"].get("local") or {}).get("path")
        if host_path is None:
            raise MissingReference(
                f"the local cluster mounts only hostPath and local volumes; {volume_name} is neither"
            )
        return Mounted(self._node_root / host_path.lstrip("/"))

    async def _files(self, source: Object) -> list[File]:
        mode = source.get("defaultMode", 0o644)
        if token := source.get("serviceAccountToken"):
            content = await self._token(
                token.get("audience", ""), token.get("expirationSeconds", _DEFAULT_TOKEN_SECONDS)
            )
            return [File(token["path"], content, 0o600)]
        if downward := source.get("downwardAPI"):
            return [
                File(item["path"], pod_field(self._pod, item["fieldRef"]["fieldPath"], self._placement).encode(), mode)
                for item in downward["items"]
            ]
        for field, find in (("configMap", self._sources.config_map), ("secret", self._sources.secret)):
            if reference := source.get(field):
                name = reference.get("name") or reference["secretName"]
                found = find(self._pod["metadata"]["namespace"], name)
                if found is None:
                    if reference.get("optional"):
                        return []
                    raise MissingReference(f'{field} "{name}" not found')
                return list(_selected(reference, _contents(field, found), reference.get("defaultMode", mode)))
        raise MissingReference(f"the local cluster has no volumes of kind {', '.join(source)}")

    async def _token(self, audience: str, seconds: int) -> bytes:
        known = self._tokens.get((audience, seconds))
        if known is not None and known.renew_at > time.monotonic():
            return known.content
        metadata, account = self._pod["metadata"], self._pod["spec"].get("serviceAccountName", "default")
        request = {
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]},
            }
        }
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        answer = await until_reachable(lambda: self._kube.request("POST", path, request))
        token = _Token(answer["status"]["token"].encode(), time.monotonic() + seconds * _RENEW_AT)
        self._tokens[audience, seconds] = token
        return token.content


def _file_sources(volume: Object) -> Iterator[Object]:
    if projected := volume.get("projected"):
        for source in projected.get("sources", []):
            yield {"defaultMode": projected.get("defaultMode", 0o644), **source}
    else:
        yield volume


def _contents(field: str, found: Object) -> dict[str, bytes]:
    if field == "secret":
        return {key: base64.b64decode(value) for key, value in found.get("data", {}).items()}
    texts = {key: value.encode() for key, value in found.get("data", {}).items()}
    return texts | {key: base64.b64decode(value) for key, value in found.get("binaryData", {}).items()}


def _selected(reference: Object, contents: dict[str, bytes], mode: int) -> Iterator[File]:
    if "items" not in reference:
        yield from (File(key, content, mode) for key, content in contents.items())
        return
    for item in reference["items"]:
        if item["key"] not in contents:
            if reference.get("optional"):
                continue
            raise MissingReference(f"references non-existent key {item['key']!r}")
        yield File(item["path"], contents[item["key"]], item.get("mode", mode))


def _write_files(folder: Path, files: list[File]) -> None:
    """Each file is replaced as a whole, so that its reader sees the old or the new one; files that are gone go."""
    for file in files:
        target = folder / file.path
        if target.exists() and target.read_bytes() == file.content:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.new")
        temporary.touch(mode=0o600)
        temporary.write_bytes(file.content)
        temporary.chmod(file.mode)
        os.replace(temporary, target)
    wanted = {folder / file.path for file in files}
    for path in list(folder.rglob("*")):
        if path.is_file() and path not in wanted:
            path.unlink()

"""What the status service writes to the Kubernetes API, and how it addresses it: server-side apply under one name.

Must not decide what is written or when.
"""

from dataclasses import dataclass

from libs.chassis.errors import ServiceError
from libs.chassis.kube import APPLY_PATCH, MERGE_PATCH, METADATA_ONLY, KubeClient, Object
from services.status.metrics import WRITES


@dataclass(frozen=True)
class Resource:
    """One collection of the API; group_version is "v1" for the core group."""

    group_version: str
    plural: str
    kind: str

    def path(self, name: str = "", namespace: str = "", subresource: str = "") -> str:
        """The path of the collection, of one object in it, or of a subresource."""
        root = "/api/v1" if self.group_version == "v1" else f"/apis/{self.group_version}"
        scope = f"/namespaces/{namespace}" if namespace else ""
        return "/".join(part for part in (f"{root}{scope}/{self.plural}", name, subresource) if part)


class Writer:
    """Writes under one field manager. Every method raises as KubeClient.request does."""

    def __init__(self, client: KubeClient, field_manager: str) -> None:
        self._client = client
        self._field_manager = field_manager

    async def apply(self, resource: Resource, body: Object, subresource: str = "", *, force: bool = False) -> Object:
        """Server-side apply body, which names the object in its metadata; with metadata.uid it never creates one."""
        metadata = body["metadata"]
        path = resource.path(metadata["name"], metadata.get("namespace", ""), subresource)
        query = {"fieldManager": self._field_manager, "force": str(force).lower()}
        return await self._write("PATCH", resource, path, _typed(resource, body), query, APPLY_PATCH)

    async def label(self, resource: Resource, name: str, uid: str, labels: dict[str, str | None]) -> Object:
        """Set labels of the object that has this uid, and remove those that are None; answers with metadata only."""
        body = {"metadata": {"uid": uid, "labels": labels}}
        query = {"fieldManager": self._field_manager}
        accept = METADATA_ONLY.format("PartialObjectMetadata")
        return await self._write("PATCH", resource, resource.path(name), body, query, MERGE_PATCH, accept)

    async def create(self, resource: Resource, body: Object, namespace: str) -> None:
        """Create an object."""
        await self._write("POST", resource, resource.path(namespace=namespace), _typed(resource, body))

    async def delete(self, resource: Resource, name: str, namespace: str, uid: str) -> None:
        """Delete the object that has this uid."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        await self._write("DELETE", resource, resource.path(name, namespace), body)

    async def _write(
        self,
        method: str,
        resource: Resource,
        path: str,
        body: Object,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Object:
        try:
            written = await self._client.request(method, path, body, query, content_type, accept)
        except ServiceError as error:
            WRITES.labels(method, resource.plural, error.reason).inc()
            raise
        WRITES.labels(method, resource.plural, "").inc()
        return written


def _typed(resource: Resource, body: Object) -> Object:
    return {"apiVersion": resource.group_version, "kind": resource.kind, **body}

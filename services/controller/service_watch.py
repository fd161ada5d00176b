"""What the controller sees of InferenceServices: which base models somebody wants to be served.

Owns their reflector. The kind may be missing, and may be that of another product.
"""

from collections.abc import Callable

from libs.chassis.health import Health
from libs.chassis.kube import KubeClient, Object
from libs.chassis.reflector import Reflector
from libs.model.bases import Bases, served_reference
from libs.model.kinds import INFERENCE_SERVICE
from services.controller.kube import SERVICES


class ServiceWatch:
    """Services by the model that each means; changed is called with the uid of each model that a change concerns."""

    def __init__(self, changed: Callable[[str], None], health: Health) -> None:
        self._changed = changed
        self._served = Bases(INFERENCE_SERVICE, served_reference)
        self._services = Reflector(SERVICES, "inferenceservices", health, project=kept_of_service, optional=True)

    def is_wanted(self, uid: str) -> bool:
        """Whether a service means a model."""
        return bool(self._served.referring_to(uid))

    def object_changed(self, before: Object | None, after: Object | None) -> None:
        """A model or a service was seen, changed or went."""
        for uid in self._served.object_changed(before, after):
            self._changed(uid)

    async def synced(self) -> None:
        """Wait until all services have been listed once, or are known to be of no kind that exists."""
        await self._services.synced()

    async def run(self, kube: KubeClient) -> None:
        """Keep the copies current until cancelled."""
        await self._services.run(kube, self.object_changed)


def kept_of_service(item: Object) -> Object:
    """What is read of a service here."""
    metadata = {key: item["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
    model = (item.get("spec") or {}).get("model")
    return {"kind": INFERENCE_SERVICE, "metadata": metadata, "spec": {"model": model}}

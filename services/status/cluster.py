"""The Kubernetes objects that this replica knows: models, nodes and the nodes' ConfigMaps.

Owns their reflectors and says which models and nodes a change concerns. Must not write anything.
"""

import asyncio
import sys
from collections.abc import Mapping

from libs.chassis.health import Health
from libs.chassis.kube import KubeClient, Object
from libs.chassis.reflector import Reflector
from libs.model.bases import Bases, served_reference
from libs.model.kinds import GROUP_VERSION, INFERENCE_SERVICE, KINDS
from services.status.kube import Resource
from services.status.labels import CONFIG_MAP_LABEL
from services.status.observations import Listener
from services.status.relations import Relations, matters_to_weights

MODELS = {kind.name: Resource(GROUP_VERSION, kind.plural, kind.name) for kind in KINDS}
NODES = Resource("v1", "nodes", "Node")
SERVICES = Resource(GROUP_VERSION, "inferenceservices", INFERENCE_SERVICE)
CONFIG_MAPS = Resource("v1", "configmaps", "ConfigMap")


class Cluster:
    """Copies of the objects: models by uid, nodes and ConfigMaps by name."""

    def __init__(self, health: Health, namespace: str, listener: Listener) -> None:
        self.models: dict[str, Object] = {}
        self._bases = Bases()
        self._served = Bases(INFERENCE_SERVICE, served_reference)
        self._service_objects: dict[str, Object] = {}
        self._namespace = namespace
        self._listener = listener
        self._models = {name: Reflector(resource.path(), resource.plural, health) for name, resource in MODELS.items()}
        # Nodes report their status every few seconds; of all that only the metadata comes here.
        self._nodes = Reflector(NODES.path(), NODES.plural, health, metadata_only=True, project=kept_node)
        # The kind may be missing.
        self._services = Reflector(SERVICES.path(), SERVICES.plural, health, optional=True)
        selector = {"labelSelector": f"{CONFIG_MAP_LABEL}=true"}
        path = CONFIG_MAPS.path(namespace=namespace)
        self._config_maps = Reflector(path, CONFIG_MAPS.plural, health, selector, project=kept_config_map)

    def node(self, name: str) -> Object | None:
        """A node's metadata-only object."""
        return self._nodes.objects.get(("", name))

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return len(self._nodes.objects)

    def node_names(self) -> list[str]:
        """Every node that exists."""
        return [name for _, name in self._nodes.objects]

    def relations(self, model: Object) -> Relations:
        """The models that a model is tied to."""
        uid = model["metadata"]["uid"]
        weights = (self.models[weight] for weight in self._bases.referring_to(uid) if weight in self.models)
        names = sorted(weight["metadata"]["name"] for weight in weights)
        return Relations(self.models.get(self._bases.base_of(uid) or ""), tuple(names))

    def service(self, uid: str) -> Object | None:
        """An InferenceService."""
        return self._service_objects.get(uid)

    def service_uids(self) -> list[str]:
        """Every InferenceService."""
        return list(self._service_objects)

    def served_model(self, uid: str) -> Object | None:
        """The model that an InferenceService means."""
        return self.models.get(self._served.base_of(uid) or "")

    def absorb_service(self, written: Object) -> None:
        """Take the answer to a write of an InferenceService."""
        self._services.absorb(written, self._service_changed)

    def config_map(self, name: str) -> Object | None:
        """The ConfigMap of a node, if it carries our label."""
        return self._config_maps.objects.get((self._namespace, name))

    def config_map_names(self) -> list[str]:
        """Every node that has a ConfigMap, though the node itself may be gone."""
        return [name for _, name in self._config_maps.objects]

    def absorb_model(self, written: Object) -> None:
        """Take the answer to a write of a model."""
        self._models[written["kind"]].absorb(written, self._model_changed)

    def absorb_node(self, written: Object) -> None:
        """Take the answer to a write of a node."""
        self._nodes.absorb(written, self._node_changed)

    def absorb_config_map(self, written: Object) -> None:
        """Take the answer to a write of a ConfigMap."""
        self._config_maps.absorb(written, self._config_map_changed)

    async def synced(self) -> None:
        """Wait until everything has been listed once."""
        for reflector in (*self._models.values(), self._nodes, self._config_maps, self._services):
            await reflector.synced()

    async def run(self, client: KubeClient) -> None:
        """Keep the copies current until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._models.values():
                group.create_task(reflector.run(client, self._model_changed))
            group.create_task(self._nodes.run(client, self._node_changed))
            group.create_task(self._services.run(client, self._service_changed))
            group.create_task(self._config_maps.run(client, self._config_map_changed))

    def _model_changed(self, before: Object | None, after: Object | None) -> None:
        replaced = not before or not after or before["metadata"]["uid"] != after["metadata"]["uid"]
        if before and replaced:
            self.models.pop(before["metadata"]["uid"], None)
        if after:
            self.models[after["metadata"]["uid"]] = after
        for service in self._concerned(before, after):
            self._listener.service_changed(service)
        own = {item["metadata"]["uid"] for item in (before, after) if item}
        for uid in self._tied(before, after) - own:
            self._listener.model_changed(uid)
        for uid in own:
            self._listener.model_changed(uid)
            if replaced or _shown_on_nodes(before) != _shown_on_nodes(after):
                self._listener.model_placed(uid)

    def _concerned(self, before: Object | None, after: Object | None) -> set[str]:
        """The services whose status tells of a change of a model."""
        found = self._served.object_changed(before, after) & self._service_objects.keys()
        return found | self._served.referring_to(after["metadata"]["uid"]) if after else found

    def _service_changed(self, before: Object | None, after: Object | None) -> None:
        for item in (before, after):
            if item:
                self._service_objects.pop(item["metadata"]["uid"], None)
        if after:
            self._service_objects[after["metadata"]["uid"]] = after
        self._served.object_changed(_typed(before), _typed(after))
        for uid in {item["metadata"]["uid"] for item in (before, after) if item}:
            self._listener.service_changed(uid)

    def _tied(self, before: Object | None, after: Object | None) -> set[str]:
        """The models whose status tells of a change of this one."""
        tied = self._bases.object_changed(before, after)
        if before and after and matters_to_weights(before) != matters_to_weights(after):
            tied |= self._bases.referring_to(after["metadata"]["uid"])
        return tied

    def _node_changed(self, before: Object | None, after: Object | None) -> None:
        # Most changes of a node are its heartbeat, which nothing here depends on.
        if before and after and _labels(before) == _labels(after):
            return
        name = (after or before or {})["metadata"]["name"]
        self._listener.node_changed(name)
        if not before or not after:
            self._listener.node_placed(name)

    def _config_map_changed(self, before: Object | None, after: Object | None) -> None:
        self._listener.node_changed((after or before or {})["metadata"]["name"])


def _typed(item: Object | None) -> Object | None:
    # Items of a list do not say their kind.
    return {**item, "kind": INFERENCE_SERVICE} if item else None


def kept_node(item: Object) -> Object:
    """What is read of a node here."""
    return {"metadata": {**_identity(item), "labels": _shared(item["metadata"].get("labels") or {})}}


def kept_config_map(item: Object) -> Object:
    """What is read of a node's ConfigMap here."""
    return {"metadata": _identity(item), "data": _shared(item.get("data") or {})}


def _identity(item: Object) -> Object:
    metadata = item["metadata"]
    return {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion") if key in metadata}


def _shared(words: Mapping[str, str]) -> dict[str, str]:
    """The same words on all nodes of a fleet are kept once."""
    return {sys.intern(key): sys.intern(value) for key, value in words.items()}


def _labels(item: Object) -> Mapping[str, str]:
    labels: Mapping[str, str] = item["metadata"].get("labels") or {}
    return labels


def _shown_on_nodes(model: Object | None) -> tuple[object, ...]:
    metadata = (model or {"metadata": {}})["metadata"]
    return metadata.get("deletionTimestamp"), metadata.get("annotations")

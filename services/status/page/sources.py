"""What the pages read. It is all in memory, and kept there for StatusService and .status anyway."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from libs.chassis.health import Health
from libs.chassis.kube import Object
from libs.model.explanation import Explanation
from ome.fetch.v1.fetch_pb2 import FilesReply, NodeHeartbeat, NodeModelState, Progress
from ome.model.v1.model_pb2 import Forecast
from services.status.callers import Caller
from services.status.catalog import Catalog


class Reports(Protocol):
    """What nodes say, and what the controller has decided about them."""

    def desired_nodes(self, model_uid: str) -> frozenset[str]:
        """The nodes that must hold a model."""
        ...

    def progress(self, node: str, model_uid: str) -> Progress | None:
        """How far a running transfer is."""
        ...

    def states_of_node(self, node: str) -> Mapping[str, NodeModelState]:
        """What a node says about each model, by uid."""
        ...

    def models_of_node(self, node: str) -> set[str]:
        """Models that a node holds or is meant to hold, by uid."""
        ...

    def heartbeat(self, node: str) -> NodeHeartbeat | None:
        """The last heartbeat of a node, unless it has expired."""
        ...

    def reporting_nodes(self) -> list[str]:
        """Nodes that have a heartbeat, sorted."""
        ...

    def reachable(self, node: str) -> bool | None:
        """Whether the node's fetcher was heard of lately; None while nobody can say."""
        ...


class Explains(Protocol):
    """Says why."""

    def on_node(self, uid: str, node: str) -> Explanation | None:
        """Why a model is, or is not, on a node; None if there is no such model."""
        ...

    def in_cluster(self, uid: str, with_other_nodes: bool) -> Explanation | None:
        """Why a model is not on more nodes; None if there is no such model."""
        ...


class Plans(Protocol):
    """Says what would come of manifests."""

    async def plan(self, caller: Caller, manifest: str) -> Forecast:
        """What would come of a manifest, as far as the caller may know it; raises ServiceErrors."""
        ...


class Lists(Protocol):
    """Says which files artifacts have."""

    async def files(self, digest: str) -> FilesReply:
        """The largest files of an artifact, and how many there are; raises ServiceErrors."""
        ...


@dataclass(frozen=True)
class Sources:
    """Views of models, reports of nodes, the objects themselves, and whether and why it may all be out of date."""

    catalog: Catalog
    reports: Reports
    explainer: Explains
    forecaster: Plans
    lists: Lists
    model_object: Callable[[str], Object | None]
    synced: Callable[[], bool]
    health: Health

"""The client that blocks."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import grpc

from ome.model.v1.model_pb2 import Forecast
from ome.status.v1 import status_pb2, status_pb2_grpc
from ome.status.v1.status_pb2 import (
    MODEL_ORDER_UNSPECIFIED,
    MODEL_STATE_UNSPECIFIED,
    ExplainResponse,
    GetNodeResponse,
    Model,
    ModelOrder,
    ModelState,
    Node,
    Transfer,
)
from ome_models.connection import PLAN_SECONDS, SERVICE_NAME, connection
from ome_models.errors import Unavailable, error_of
from ome_models.following import Change, Following
from ome_models.questions import kind_filter, kind_of


class Models:
    """Asks StatusService. A context manager; each method raises a ModelsError."""

    def __init__(
        self,
        address: str,
        *,
        token: str | Callable[[], str] = "",
        token_file: str | Path | None = None,
        ca_file: str | Path | None = None,
        server_name: str = SERVICE_NAME,
        plaintext: bool = False,
        timeout_seconds: float = 20.0,
    ) -> None:
        """token_file is read again for each call. timeout_seconds is for calls with one answer."""
        self._connection = connection(address, token, token_file, ca_file, server_name, plaintext, timeout_seconds)
        options = self._connection.options()
        if plaintext:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, self._connection.credentials(), options)
        self._stub = status_pb2_grpc.StatusServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, and the watches."""
        self._channel.close()

    def get(self, name: str, namespace: str = "", kind: str | None = None) -> Model:
        """One model; without a kind a BaseModel in a namespace, and a ClusterBaseModel otherwise."""
        request = status_pb2.GetModelRequest(kind=kind_of(kind, namespace), namespace=namespace, name=name)
        answer: status_pb2.GetModelResponse = self._ask(self._stub.GetModel, request)
        return answer.model

    def list(
        self,
        *,
        namespace: str = "",
        kind: str | None = None,
        state: ModelState = MODEL_STATE_UNSPECIFIED,
        text: str = "",
        reason: str = "",
        node: str = "",
        order: ModelOrder = MODEL_ORDER_UNSPECIFIED,
    ) -> Iterator[Model]:
        """All models that match, page by page."""
        request = status_pb2.ListModelsRequest(
            kind=kind_filter(kind), namespace=namespace, state=state, text=text, reason=reason, node=node, order=order
        )
        while True:
            answer: status_pb2.ListModelsResponse = self._ask(self._stub.ListModels, request)
            yield from answer.models
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    def watch(self, *, namespace: str = "", kind: str | None = None, name: str = "") -> Iterator[Change]:
        """All models that match, and then each change, for ever: a stream that is lost is begun again.

        What was missed meanwhile is told, deletions too. Raises what another attempt does not end.
        """
        request = status_pb2.WatchModelsRequest(kind=kind_filter(kind), namespace=namespace, name=name)
        following = Following(request)
        while True:
            try:
                for event in self._stub.WatchModels(following.request(), metadata=self._connection.metadata()):
                    yield from following.changes(event)
            except grpc.RpcError as error:
                failed = error_of(error)
                if not isinstance(failed, Unavailable):
                    raise failed from error
            time.sleep(following.pause_seconds())

    def progress(
        self, *, namespace: str = "", kind: str | None = None, name: str = "", node: str = ""
    ) -> Iterator[Sequence[Transfer]]:
        """Downloads under way, each with its largest files, and then what changes of them, at most once a second."""
        request = status_pb2.WatchProgressRequest(kind=kind_filter(kind), namespace=namespace, name=name, node=node)
        try:
            for answer in self._stub.WatchProgress(request, metadata=self._connection.metadata()):
                yield answer.transfers
        except grpc.RpcError as error:
            raise error_of(error) from error

    def explain(self, name: str, namespace: str = "", kind: str | None = None, node: str = "") -> ExplainResponse:
        """Why a model is, or is not, on a node; without one, on more nodes."""
        request = status_pb2.ExplainRequest(kind=kind_of(kind, namespace), namespace=namespace, name=name, node=node)
        answer: ExplainResponse = self._ask(self._stub.Explain, request)
        return answer

    def plan(self, manifest: Mapping[str, Any]) -> Forecast:
        """What would come of a manifest, were it applied now. Its source is listed, which may take half a minute."""
        request = status_pb2.PlanRequest(manifest=json.dumps(dict(manifest)))
        answer: status_pb2.PlanResponse = self._ask(self._stub.Plan, request, PLAN_SECONDS)
        return answer.forecast

    def nodes(self) -> Sequence[Node]:
        """All nodes that run a fetcher, sorted by name."""
        answer: status_pb2.ListNodesResponse = self._ask(self._stub.ListNodes, status_pb2.ListNodesRequest())
        return answer.nodes

    def node(self, name: str) -> GetNodeResponse:
        """One node, and how each model stands on it."""
        answer: GetNodeResponse = self._ask(self._stub.GetNode, status_pb2.GetNodeRequest(name=name))
        return answer

    def _ask(self, call: Any, request: Any, least_seconds: float = 0.0) -> Any:
        seconds = max(least_seconds, self._connection.timeout_seconds)
        try:
            return call(request, metadata=self._connection.metadata(), timeout=seconds)
        except grpc.RpcError as error:
            raise error_of(error) from error

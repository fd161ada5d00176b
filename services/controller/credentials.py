"""Hands the secret of a model to the fetcher that needs it, and to no other. Secrets are neither stored nor logged."""

from collections.abc import Callable

import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.artifact import names
from libs.artifact.errors import InvalidValue
from libs.chassis.errors import Invalid, Missing, ServiceError, Unavailable
from libs.chassis.kube import KubeClient
from ome.fetch.v1 import fetch_pb2
from services.controller.kube import read_secret
from services.controller.planning import new_problem
from services.controller.specification import DEFAULT_SECRET_KEY, TOKEN_PARAMETER, ModelSpec, SecretRef, source_of

_QUEUE = "ome-credentials"
# A subscription answers one request after the other, and each answer waits for the API server.
_PARALLEL = 8
_log = structlog.get_logger()


class CredentialsServer:
    """Answers requests for credentials."""

    def __init__(
        self, kube: KubeClient, operator_namespace: str, find_model: Callable[[str, str], ModelSpec | None]
    ) -> None:
        """find_model gets a node and a model uid; it returns None when the model is none of the node's business."""
        self._kube = kube
        self._operator_namespace = operator_namespace
        self._find_model = find_model

    async def serve(self, client: Client) -> None:
        """Answer from now on; replicas share the work."""
        for _ in range(_PARALLEL):
            await client.subscribe(names.credentials_subject("*"), queue=_QUEUE, cb=self._answer)

    async def _answer(self, message: Msg) -> None:
        # The server's permissions let a node publish to its own subject only: so the subject says who asks.
        node = names.node_name(message.subject.rpartition(".")[2])
        try:
            uid = fetch_pb2.CredentialsRequest.FromString(message.data).model_uid
            reply = await self._reply(node, uid)
        except (DecodeError, InvalidValue, ServiceError) as error:
            reason = getattr(error, "reason", "Internal")
            _log.warning("credentials_refused", node=node, reason=reason, message=str(error))
            reply = fetch_pb2.CredentialsReply(problem=new_problem(reason, str(error), _class_of(error)))
        await message.respond(reply.SerializeToString())

    async def _reply(self, node: str, uid: str) -> fetch_pb2.CredentialsReply:
        model = self._find_model(node, uid)
        if model is None:
            raise Missing("Forbidden", f"model {uid} is not assigned to node {node}")
        source = source_of(model, self._operator_namespace)
        values: dict[str, bytes] = {}
        if source and source.secret:
            values = _select(await read_secret(self._kube, source.secret.namespace, source.secret.name), source.secret)
        elif source and TOKEN_PARAMETER in (parameters := (model.storage or {}).get("parameters") or {}):
            values[DEFAULT_SECRET_KEY] = parameters[TOKEN_PARAMETER].encode()
        _log.info("credentials_handed_out", node=node, model=model.ref.name)
        return fetch_pb2.CredentialsReply(values=values)


def _class_of(error: Exception) -> fetch_pb2.ProblemClass:
    if isinstance(error, InvalidValue | Invalid):
        return fetch_pb2.PROBLEM_CLASS_INVALID
    return fetch_pb2.PROBLEM_CLASS_UNAVAILABLE if isinstance(error, Unavailable) else fetch_pb2.PROBLEM_CLASS_MISSING


def _select(data: dict[str, bytes], secret: SecretRef) -> dict[str, bytes]:
    """What of a Secret a node is given: the one key that the backend uses, under its usual name, or all."""
    if not secret.key:
        return data
    if secret.key not in data:
        has = f"it has {', '.join(sorted(data))}" if data else "it is empty"
        raise Missing(
            "SecretNotFound",
            f"Secret {secret.namespace}/{secret.name} has no key {secret.key!r} ({has}); "
            "name the key in parameters.secretKey",
        )
    return {DEFAULT_SECRET_KEY: data[secret.key]}

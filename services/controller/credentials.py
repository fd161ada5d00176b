"""Hands the secret of a model to the fetcher that needs it, and to no other. Secrets are neither stored nor logged.

Where credentials may go is decided in destinations, before they leave: a fetcher never sees what it must not use.
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from libs.artifact import names
from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.artifact.uri import TOKEN_KEY, TOKEN_PARAMETER
from libs.chassis.errors import Conflict, Missing, ServiceError, Unavailable
from libs.chassis.kube import KubeClient
from libs.chassis.nats_client import read_key
from libs.model.problems import problem_of
from libs.model.sources import source_digest
from ome.fetch.v1 import fetch_pb2
from services.controller.destinations import NO_RULES, DestinationRules, check_secret, check_transport
from services.controller.kube import StoredSecret, read_secret
from services.controller.specification import ModelSource, ModelSpec, SecretRef

_QUEUE = "ome-credentials"
# A subscription answers one request after the other, and each answer waits for the API server.
_PARALLEL = 8
# How long a replica's watch may be behind another's.
_CATCH_UP_SECONDS = 1.0
_log = structlog.get_logger()


class CredentialsServer:
    """Answers requests for credentials."""

    def __init__(
        self,
        kube: KubeClient,
        js: JetStreamContext,
        find_model: Callable[[str, str, fetch_pb2.Assignment | None], ModelSpec | None],
        find_listed: Callable[[str], ModelSpec | None],
        source_of: Callable[[ModelSpec], ModelSource | None],
        hears_of_models: Callable[[], bool],
        destinations: DestinationRules = NO_RULES,
    ) -> None:
        """find_model gets a node, a model uid and the node's assignment, None for the one that is known; it returns
        None when the model is none of the node's business.

        find_listed gets the uid of a model whose source somebody wants to list; it returns None when there is nothing
        to be listed of it.

        source_of says where a model's bytes and credentials are; both may raise InvalidValue.

        hears_of_models says whether this replica hears of models just now.
        """
        self._kube = kube
        self._js = js
        self._find_model = find_model
        self._find_listed = find_listed
        self._source_of = source_of
        self._hears_of_models = hears_of_models
        self._destinations = destinations

    async def serve(self, client: Client) -> None:
        """Answer from now on; replicas share the work."""
        for _ in range(_PARALLEL):
            await client.subscribe(names.credentials_subject("*"), queue=_QUEUE, cb=self._answer)
            await client.subscribe(names.LISTING_CREDENTIALS_SUBJECT, queue=_QUEUE, cb=self._answer)

    async def _answer(self, message: Msg) -> None:
        # The gateway alone may ask on behalf of a node, and says of which by the subject. Only resolvers may ask for
        # the sake of a listing: whoever lists a source gets its secret, wherever the model is placed.
        listing = message.subject == names.LISTING_CREDENTIALS_SUBJECT
        node = "" if listing else names.node_name(message.subject.rpartition(".")[2])
        reply = fetch_pb2.CredentialsReply()
        try:
            request = fetch_pb2.CredentialsRequest.FromString(message.data)
            await self._fill(reply, node, request.model_uid, request.source_digest)
        except (DecodeError, InvalidValue, ServiceError) as error:
            problem = problem_of(error, "controller")
            _log.warning("credentials_refused", node=node, message=problem.message)
            reply.problem.CopyFrom(problem)
        await message.respond(reply.SerializeToString())

    async def _fill(self, reply: fetch_pb2.CredentialsReply, node: str, uid: str, asked_for: str) -> None:
        model, source = await self._find(node, uid)
        if source and asked_for and source_digest(source.source) != asked_for:
            # Another replica, whose task or assignment it is, may have seen an edit before this one.
            await asyncio.sleep(_CATCH_UP_SECONDS)
            model, source = await self._find(node, uid)
            if source and source_digest(source.source) != asked_for:
                # Where credentials may go is decided of the source as it is now, not of one that is still asked.
                raise Conflict(Reason.CONFLICT, f"the source of model {model.ref.name} has changed: look again")
        if source:
            await self.read(reply, model, source)
        _log.info("credentials_handed_out", node=node, model=model.ref.name)

    async def read(self, reply: fetch_pb2.CredentialsReply, model: ModelSpec, source: ModelSource) -> None:
        """Put the credentials of a model into a reply, if they may go where its source is.

        Raises Missing SecretNotFound or SecretRefused, InvalidValue for an endpoint that is none, or Unavailable.
        """
        if source.secret:
            secret = await read_secret(self._kube, *source.secret.place)
            # Before anything is found wrong: what was wrong is tried again when this has changed.
            reply.secret_version = source.secret.version(secret.state if secret else "")
            reply.values.update(self._select(secret, source, source.secret))
        elif source.token_version:
            parameters = (model.storage or {}).get("parameters") or {}
            reply.secret_version = source.token_version
            check_transport(source.source, self._destinations)
            reply.values[TOKEN_KEY] = parameters[TOKEN_PARAMETER].encode()

    async def _find(self, node: str, uid: str) -> tuple[ModelSpec, ModelSource | None]:
        """The model and its source as they are now.

        Raises Missing Forbidden when it is none of the node's business, or Unavailable when that is not known.
        """
        if not node:
            model = self._find_listed(uid)
        else:
            # A node may read its assignment and ask before whoever wrote it, or another replica, has taken note of it.
            model = self._find_model(node, uid, None) or self._find_model(node, uid, await self._assignment(node, uid))
        if model is None and not self._hears_of_models():
            raise Unavailable(Reason.UNAVAILABLE, f"the controller does not hear of models just now, and not of {uid}")
        if model is None:
            why = f"is not assigned to node {node}" if node else "is not to be listed"
            raise Missing(Reason.FORBIDDEN, f"model {uid} {why}")
        return model, self._source_of(model)

    def _select(self, secret: StoredSecret | None, source: ModelSource, ref: SecretRef) -> Mapping[str, bytes]:
        """What of a Secret a node is given: the one key that the backend uses, under its usual name, or all."""
        name = f"{ref.namespace}/{ref.name}"
        if secret is None:
            raise Missing(Reason.SECRET_NOT_FOUND, f"Secret {name} does not exist or may not be read")
        check_secret(name, secret.type, secret.annotations, source.source, self._destinations)
        if not secret.data:
            # Without credentials a fetcher would sign with its own identity.
            raise Missing(Reason.SECRET_NOT_FOUND, f"Secret {name} is empty: put the credentials of the source into it")
        if not ref.key:
            return secret.data
        if ref.key not in secret.data:
            # Its other keys are not listed: whoever writes a model need not be allowed to see them.
            raise Missing(
                Reason.SECRET_NOT_FOUND,
                f"Secret {name} has no key {ref.key!r}: name the key in storage.parameters.secretKey",
            )
        return {TOKEN_KEY: secret.data[ref.key]}

    async def _assignment(self, node: str, uid: str) -> fetch_pb2.Assignment:
        _, value = await read_key(self._js, names.DESIRED_BUCKET, names.node_key(node, uid))
        return fetch_pb2.Assignment.FromString(value or b"")

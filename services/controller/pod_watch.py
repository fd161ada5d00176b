"""What the controller sees of Pods that may use models, and its answers to nodes that ask for theirs.

Owns the reflector and the subject. Which Pod uses what is decided in use; a node learns of its own Pods, and of those
that may become its own while it holds the model that they are to use.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice

from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.artifact import names
from libs.artifact.reasons import Reason
from libs.chassis.errors import ServiceError, Unavailable
from libs.chassis.health import Health
from libs.chassis.kube import KubeClient, Object
from libs.chassis.reflector import Reflector
from libs.model.problems import problem_of
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller import use
from services.controller.kube import PODS

_QUEUE = "ome-use"
# What can use nothing any more is not even sent.
_NOT_ENDED = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}
# Pods without a node that a node is told of, for each model: one keeps it as well as any number. Such Pods take no room
# anywhere, so somebody may have thousands, of which each node that holds the model would be told.
_MOST_WAITING = 64
FindModel = Callable[[str], model_pb2.ModelRef | None]


class PodWatch:
    """Copies of Pods; changed is called with the uid of each model of which other Pods are users now."""

    def __init__(self, own_namespace: str, name_all: bool, changed: Callable[[str], None], health: Health) -> None:
        """With name_all, a cluster-scoped model names the Pods of all namespaces."""
        self.index = use.UseIndex()
        self._name_all = name_all
        self._changed = changed
        project = partial(use.project_pod, own_namespace=own_namespace)
        self._pods = Reflector(PODS, "pods that use models", health, _NOT_ENDED, project=project)

    async def run(self, kube: KubeClient) -> None:
        """Follow Pods until cancelled."""
        await self._pods.run(kube, self._pod_changed)

    async def synced(self) -> None:
        """Wait until all Pods have been listed once."""
        await self._pods.synced()

    async def serve(
        self,
        client: Client,
        find_model: FindModel,
        serves: Callable[[str, str], bool],
        hears_of_models: Callable[[], bool],
    ) -> None:
        """Answer nodes from now on; replicas share the work. find_model gets the uid of a model, serves a node and such
        a uid, and says whether Pods may be sent there for it.
        """

        async def answer(message: Msg) -> None:
            node = names.node_name(message.subject.rpartition(".")[2])
            reply = fetch_pb2.UseReply()
            try:
                request = fetch_pb2.UseRequest.FromString(message.data)
                self._refuse_while_behind()
                if not hears_of_models() and any(find_model(each.model_uid) is None for each in request.questions):
                    # A Pod may name such a model by nothing but the annotation.
                    raise Unavailable(Reason.UNAVAILABLE, "the controller does not hear of models just now")
                reply.uses.extend(await self.uses(node, request.questions, find_model, serves))
            except (DecodeError, ServiceError) as error:
                reply.problem.CopyFrom(problem_of(error, "controller"))
            await message.respond(reply.SerializeToString())

        await client.subscribe(names.use_subject("*"), queue=_QUEUE, cb=answer)

    async def uses(
        self,
        node: str,
        questions: Iterable[fetch_pb2.UseQuestion],
        find_model: FindModel,
        serves: Callable[[str, str], bool] = lambda node, uid: False,
    ) -> list[fetch_pb2.Use]:
        """One answer for each question of a node."""
        told = []
        for question in questions:
            told.append(self._use(node, question, find_model, serves))
            # Each looks at all Pods of the node, and planning and the lease have their turns in between.
            await asyncio.sleep(0)
        return told

    def _use(
        self, node: str, question: fetch_pb2.UseQuestion, find_model: FindModel, serves: Callable[[str, str], bool]
    ) -> fetch_pb2.Use:
        ref = find_model(question.model_uid)
        before = question.before.ToMilliseconds() / 1000 if question.HasField("before") else None
        found = use.users(self.index.pods_on(node), ref, question.root, question.paths, before)
        # A Pod for which no node is chosen yet finds whatever stands at the path once it is: nothing of the past.
        if before is None and serves(node, question.model_uid):
            found += islice(self.index.waiting_for(question.model_uid), _MOST_WAITING)
        return use.told_use(found, ref, self._name_all)

    def _refuse_while_behind(self) -> None:
        if not self._pods.current:
            raise Unavailable(Reason.UNAVAILABLE, "the controller does not hear of Pods just now")

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        metadata = (after or before or {})["metadata"]
        key = metadata["namespace"], metadata["name"]
        for uid in self.index.pod_changed(key, use.view_pod(after) if after else None):
            self._changed(uid)

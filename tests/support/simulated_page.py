"""The web page with a simulated fleet behind it, for what looks at it in a browser and for its benchmark.

Run `python -m tests.support.simulated_page --models 40 --nodes 60` and open the address that it prints. The catalogue,
the matrix and the pages are the real ones; only what nodes say is made up, and moves on once a second.
"""

import argparse
import asyncio
import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from libs.artifact.reasons import Reason as Word
from libs.chassis.errors import Invalid, ServiceError
from libs.chassis.health import Health
from libs.chassis.kube import Object
from libs.model.explanation import (
    FAILED,
    READY,
    UPDATING,
    Explanation,
    NodeFacts,
    Standing,
    explain_model,
    explain_node,
)
from libs.model.reasons import word_of
from ome.fetch.v1.fetch_pb2 import (
    Checksum,
    ChecksumAlgorithm,
    FilesReply,
    NodeHeartbeat,
    NodeLimits,
    NodeModelState,
    Progress,
    RootCapacity,
)
from ome.model.v1.model_pb2 import (
    MODEL_KIND_BASE_MODEL,
    MODEL_KIND_CLUSTER_BASE_MODEL,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    REASON_CHECKSUM_MISMATCH,
    REASON_DOWNLOADING,
    REASON_INSUFFICIENT_DISK,
    REASON_NODE_UNREACHABLE,
    REASON_QUEUED,
    ROOM_VERDICT_EVICTS,
    ROOM_VERDICT_FITS,
    ROOM_VERDICT_HELD,
    ROOM_VERDICT_LACKS,
    Artifact,
    Forecast,
    ModelRef,
    NodePhase,
    Reason,
)
from ome.parser.v1.parser_pb2 import ModelFacts, ParameterCount
from ome.status.v1.status_pb2 import (
    CONDITION_STATUS_FALSE,
    CONDITION_STATUS_TRUE,
    MODEL_STATE_CREATING,
    MODEL_STATE_FAILED,
    MODEL_STATE_READY,
    Condition,
    Model,
    NodeStatus,
)
from services.status.access import EveryAccess, Scope
from services.status.callers import Anyone, Caller, Unauthenticated, bearer_token
from services.status.catalog import Catalog
from services.status.page.acting import Acts
from services.status.page.pages import Door, Pages
from services.status.page.server import serve_page
from services.status.page.session import TrustedProxy
from services.status.page.sources import Sources
from tools.localcluster.addresses import free_port

_NAMES = (
    "llama-3-3-70b-instruct", "llama-4-maverick-17b-128e", "mistral-small-24b", "mixtral-8x22b", "qwen3-235b-a22b",
    "qwen2-5-coder-32b", "deepseek-v3", "deepseek-r1", "gemma-3-27b-it", "phi-4", "command-r-plus", "gpt-oss-120b",
    "nemotron-70b", "kimi-k2", "glm-4-5-air", "bge-m3", "e5-mistral-7b", "whisper-large-v3", "sdxl-base", "flux-dev",
)  # fmt: skip
_GIB = 1 << 30


class SimulatedFleet:
    """Models and nodes that move on with each step: a real catalogue, and reports that agree with it."""

    def __init__(self, models: int, nodes: int, seed: int = 7) -> None:
        self._random = random.Random(seed)
        self.catalog = Catalog()
        self.nodes = [f"gpu-{'ab'[number % 2]}-{number // 2 + 1}" for number in range(nodes)]
        self._silent = set(self.nodes[5::97])
        self._progress: dict[tuple[str, str], Progress] = {}
        self._statuses: dict[str, dict[str, NodeStatus]] = {}
        self._models: dict[str, Model] = {}
        for number in range(models):
            self._add(number)
        for uid in self._models:
            self._tell(uid)

    def desired_nodes(self, model_uid: str) -> frozenset[str]:
        """All that the model stands on."""
        return frozenset(self._statuses[model_uid])

    def progress(self, node: str, model_uid: str) -> Progress | None:
        """The figures of a download."""
        return self._progress.get((node, model_uid))

    def states_of_node(self, node: str) -> Mapping[str, NodeModelState]:
        """The phases alone."""
        return {
            uid: NodeModelState(phase=statuses[node].phase)
            for uid, statuses in self._statuses.items()
            if node in statuses
        }

    def models_of_node(self, node: str) -> set[str]:
        """All that stand on the node."""
        return {uid for uid, statuses in self._statuses.items() if node in statuses}

    def heartbeat(self, node: str) -> NodeHeartbeat | None:
        """A node with one root."""
        if node not in self.nodes:
            return None
        free = (3000 + 37 * self.nodes.index(node) % 4000) * _GIB
        root = RootCapacity(root="/raid/models", total_bytes=14_000 * _GIB, free_bytes=free)
        root.reserved_bytes = 120 * _GIB * (self.nodes.index(node) % 2 == 0)
        limits = NodeLimits(bytes_per_second=1250 << 20, connections_per_host=16 if self.nodes.index(node) % 5 else 8)
        return NodeHeartbeat(node=node, version="0.4.0", roots=[root], limits=limits)

    def reporting_nodes(self) -> list[str]:
        """All of them."""
        return sorted(self.nodes)

    def reachable(self, node: str) -> bool | None:
        """Most of them."""
        return node not in self._silent

    def model_object(self, uid: str) -> Object:
        """The object that would have been applied."""
        model = self._models[uid]
        return {
            "apiVersion": "ome.io/v1beta1",
            "kind": "ClusterBaseModel",
            "metadata": {"name": model.ref.name, "uid": uid, "resourceVersion": "1"},
            "spec": {
                "storage": {
                    "storageUri": model.storage_uri,
                    "path": f"/raid/models/{model.ref.name}",
                    "nodeSelector": {"pool": "inference"},
                    "residency": "Evictable",
                }
            },
            "status": {
                "artifact": {"digest": model.artifact.digest, "bytes": model.artifact.bytes},
                "download": {"bytes": model.artifact.bytes, "seconds": 1260, "finishedAt": "2026-03-01T12:00:00Z"},
                "nodesReady": [node for node, each in self._statuses[uid].items() if each.phase == NODE_PHASE_READY],
                "conditions": [
                    {
                        "type": each.type,
                        "status": "True" if each.status == CONDITION_STATUS_TRUE else "False",
                        "reason": each.reason,
                        "message": each.message,
                    }
                    for each in (self.catalog.get(uid) or model).conditions
                ],
                "inUse": {
                    "nodes": 1,
                    "pods": 1,
                    "users": [{"node": self.nodes[0], "pod": f"serving/{model.ref.name}-0"}] if self.nodes else [],
                },
                "history": [
                    {
                        "digest": model.artifact.digest if number == 3 else _digest(number),
                        "sourceRevision": hashlib.sha1(str(number).encode()).hexdigest(),
                        "bytes": model.artifact.bytes,
                        "files": 34,
                        "since": f"2026-0{number}-01T09:00:00Z",
                    }
                    for number in (3, 2)
                ],
            },
        }

    async def plan(self, caller: Caller, manifest: str) -> Forecast:
        """A forecast that says who has asked, of a manifest that is not read."""
        if not manifest.startswith("{"):
            raise Invalid(Word.INVALID_PARAMETER, "the manifest is no JSON")
        named = json.loads(manifest).get("metadata") or {}
        forecast = Forecast(
            model=ModelRef(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name=named.get("name", "")),
            exists=True,
            source="hf://org/model",
            credentials=f"what {caller.name} may use",
            listed=True,
            artifact=Artifact(digest=_digest(9), source_revision=f"{9:040x}", bytes=140 * _GIB, files=34),
            disk_bytes=141 * _GIB,
            node_count=len(self.nodes),
            lacking_nodes=1,
            fetching_nodes=len(self.nodes) - 1,
            egress_bytes=140 * _GIB * (len(self.nodes) - 1),
        )
        for file, size in self._files():
            forecast.files.add(path=file, bytes=size)
        forecast.remarks.add(message="original/consolidated.00.pth would not be fetched: safetensors hold the same.")
        rooms = (ROOM_VERDICT_LACKS, ROOM_VERDICT_EVICTS, ROOM_VERDICT_FITS, ROOM_VERDICT_HELD)
        for number, (node, room) in enumerate(zip(self.nodes, rooms, strict=False)):
            said = forecast.nodes.add(node=node, room=room, root="/raid/models", total_bytes=14_000 * _GIB)
            said.free_bytes, said.reserved_bytes = (90 + 400 * number) * _GIB, 40 * _GIB * (number % 2)
            said.over_watermark = not number
            if room == ROOM_VERDICT_EVICTS:
                said.evictable.add(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name="phi-4")
            if room != ROOM_VERDICT_LACKS:
                said.bytes_per_second, said.seconds = 600 << 20, 239
        return forecast

    async def files(self, digest: str) -> FilesReply:
        """The files of any artifact."""
        reply = FilesReply(total=34)
        for path, size in self._files():
            checksum = Checksum(
                algorithm=ChecksumAlgorithm.CHECKSUM_ALGORITHM_SHA256, value=hashlib.sha256(path.encode()).hexdigest()
            )
            reply.files.add(path=path, size_bytes=size, checksum=checksum)
        return reply

    def _files(self) -> list[tuple[str, int]]:
        weights = [(f"model-{number:05}-of-00030.safetensors", 5 * _GIB - number) for number in range(1, 31)]
        return [*weights, ("tokenizer.json", 17 << 20), ("config.json", 1200)]

    def on_node(self, uid: str, node: str) -> Explanation | None:
        """As for a real model."""
        return explain_node(self.model_object(uid), self._facts(uid, node), datetime.now(UTC))

    def in_cluster(self, uid: str, with_other_nodes: bool) -> Explanation | None:
        """As for a real model."""
        facts = [self._facts(uid, node) for node in self._statuses[uid]]
        return explain_model(self.model_object(uid), facts, with_labels=with_other_nodes)

    def _facts(self, uid: str, node: str) -> NodeFacts:
        status = self._statuses[uid].get(node)
        words = {NODE_PHASE_READY: READY, NODE_PHASE_UPDATING: UPDATING, NODE_PHASE_FAILED: FAILED}
        said = None
        if status:
            said = Standing(words[status.phase], word_of(status.reason), status.message, status.path)
        pool = {"pool": "batch" if uid in self._models and not status else "inference"}
        return NodeFacts(node, pool, reports=self.reachable(node), planned=bool(status), standing=said)

    def step(self) -> None:
        """Let a second pass."""
        for (node, uid), figures in list(self._progress.items()):
            status = self._statuses[uid][node]
            status.bytes_done = min(status.bytes_total, status.bytes_done + figures.bytes_per_second)
            figures.bytes_done = status.bytes_done
            figures.eta_seconds = (status.bytes_total - status.bytes_done) // max(1, figures.bytes_per_second)
            self._move_files(figures)
            if status.bytes_done >= status.bytes_total:
                self._set(uid, node, NODE_PHASE_READY)
                self._begin_another(uid)
                self._tell(uid)
            else:
                self.catalog.touch(uid)

    def _add(self, number: int) -> None:
        name = _NAMES[number % len(_NAMES)] + (f"-{number // len(_NAMES) + 1}" if number >= len(_NAMES) else "")
        is_of_team = number % 7 == 3
        kind = MODEL_KIND_BASE_MODEL if is_of_team else MODEL_KIND_CLUSTER_BASE_MODEL
        uid = f"00000000-0000-4000-8000-{number:012d}"
        ref = ModelRef(kind=kind, namespace="team-vision" if is_of_team else "", name=name, uid=uid)
        size = self._random.choice((2, 15, 48, 140, 240)) * _GIB
        self._models[uid] = Model(
            ref=ref,
            artifact=Artifact(
                digest=f"sha256:{hashlib.sha256(name.encode()).hexdigest()}",
                source_revision=hashlib.sha1(b"3").hexdigest(),
                bytes=size,
                files=34,
            ),
            storage_uri=("s3://weights-eu/" if number % 5 == 4 else "hf://example/") + name,
            facts=ModelFacts(
                architecture="LlamaForCausalLM",
                model_type="llama",
                parameters=ParameterCount(count=70_553_706_496, exact=True),
                parameter_size="70B",
                usable_context_length=131_072,
                weight_bytes=size,
                kv_cache_bytes_per_token=327_680,
                dtype="bfloat16",
                format="safetensors",
                framework="transformers",
                capabilities=["TEXT_GENERATION"],
                license="llama3.3",
            ),
        )
        wanted = self.nodes if number % 4 else self.nodes[number % 3 :: 3]
        self._statuses[uid] = {
            node: NodeStatus(node=node, bytes_total=size, path=f"/raid/models/{name}") for node in wanted
        }
        for node in wanted:
            self._place(uid, node, number)

    def _place(self, uid: str, node: str, number: int) -> None:
        chance = self._random.random()
        moving = {1: 0.55, 6: 0.12}.get(number % 11, 0.004)
        if node in self._silent:
            self._set(uid, node, NODE_PHASE_READY, REASON_NODE_UNREACHABLE, "The node's fetcher does not report.")
        elif number % 13 == 5 and chance > 0.2:
            self._set(uid, node, NODE_PHASE_UPDATING, REASON_QUEUED, "Waiting for a transfer slot on the node.")
        elif number % 17 == 9 and chance < 0.25:
            message = "The model needs 240 GiB below /raid/models, where 112 GiB are free and 40 GiB are reserved."
            self._set(uid, node, NODE_PHASE_FAILED, REASON_INSUFFICIENT_DISK, message)
        elif number % 19 == 12:
            message = "model-00007-of-00030.safetensors does not match its checksum after 5 attempts."
            self._set(uid, node, NODE_PHASE_FAILED, REASON_CHECKSUM_MISMATCH, message)
        elif chance < moving:
            self._download(uid, node, self._random.random())
        else:
            self._set(uid, node, NODE_PHASE_READY)

    def _download(self, uid: str, node: str, share: float) -> None:
        self._set(uid, node, NODE_PHASE_UPDATING, REASON_DOWNLOADING)
        status = self._statuses[uid][node]
        status.bytes_done = int(share * status.bytes_total)
        self._progress[node, uid] = Progress(
            bytes_done=status.bytes_done,
            bytes_total=status.bytes_total,
            bytes_per_second=self._random.randint(120, 900) << 20,
        )
        self._move_files(self._progress[node, uid])

    def _move_files(self, figures: Progress) -> None:
        """Two files are on their way at a time, the earlier one faster."""
        size = figures.bytes_total // 30 or 1
        number, done = divmod(figures.bytes_done, size)
        del figures.files[:]
        for place, (share, faster) in enumerate(((done, 2), (done // 3, 1))):
            rate = figures.bytes_per_second * faster // 3
            file = figures.files.add(path=f"model-{number + place + 1:05}-of-00030.safetensors", bytes_done=share)
            file.bytes_total, file.bytes_per_second, file.eta_seconds = size, rate, (size - share) // max(1, rate)

    def _begin_another(self, uid: str) -> None:
        ready = [
            node for node, each in self._statuses[uid].items() if each.phase == NODE_PHASE_READY and not each.reason
        ]
        if ready:
            self._download(uid, self._random.choice(ready), 0.0)

    def _set(self, uid: str, node: str, phase: NodePhase, reason: Reason = 0, message: str = "") -> None:  # type: ignore[assignment]
        status = self._statuses[uid][node]
        status.phase, status.reason, status.message = phase, reason, message
        self._progress.pop((node, uid), None)

    def _tell(self, uid: str) -> None:
        statuses = self._statuses[uid].values()
        failed = [each for each in statuses if each.phase == NODE_PHASE_FAILED]
        ready = [each for each in statuses if each.phase == NODE_PHASE_READY]
        model = Model()
        model.CopyFrom(self._models[uid])
        model.nodes.extend(sorted(statuses, key=lambda each: each.node))
        model.state = MODEL_STATE_READY if ready else MODEL_STATE_FAILED if failed else MODEL_STATE_CREATING
        complete = len(ready) == len(statuses)
        counted = f"{len(ready)} of {len(statuses)} nodes hold the model."
        model.conditions.append(_condition("Available", bool(ready), "NodeReady" if ready else "Pending", counted))
        reason = "AllNodesReady" if complete else "Downloading"
        if failed:
            word = "InsufficientDisk" if failed[0].reason == REASON_INSUFFICIENT_DISK else "ChecksumMismatch"
            message = f"{len(failed)} of {len(statuses)} nodes have failed. {failed[0].node}: {failed[0].message}"
            model.conditions.append(_condition("Degraded", True, word, message))
            reason = word
        model.conditions.append(_condition("Complete", complete, reason, counted))
        self.catalog.put(model)


def _digest(number: int) -> str:
    return f"sha256:{number:064x}"


def _condition(kind: str, holds: bool, reason: str, message: str) -> Condition:
    condition = Condition(
        type=kind,
        status=CONDITION_STATUS_TRUE if holds else CONDITION_STATUS_FALSE,
        reason=reason,
        message=message,
    )
    condition.last_transition_time.FromJsonString("2026-03-01T12:00:00Z")
    return condition


def simulated_pages(fleet: SimulatedFleet, stop: asyncio.Event, health: Health, acts: Acts | None = None) -> Pages:
    """The pages on a simulated fleet, for everybody; to act on it, they have to sign in by any name."""
    sources = Sources(fleet.catalog, fleet, fleet, fleet, fleet, fleet.model_object, lambda: True, health)
    callers = Named() if acts else Anyone()
    access = EveryRight() if acts else EveryAccess()
    door = Door(callers, access, TrustedProxy(), bool(acts), "ome-status", 1000.0, 32, acts, Events() if acts else None)
    return Pages(sources, door, stop)


class EveryRight(EveryAccess):
    """Lets everybody see and change everything."""

    async def permits(self, caller: Caller, verb: str, scope: Scope, name: str = "") -> bool:
        """Always."""
        return True


class Named:
    """Takes a token for the name of its owner."""

    async def identify(self, metadata: Iterable[tuple[str, str | bytes]], peer: str) -> Caller:
        """Whoever the token says."""
        if not (token := bearer_token(metadata)):
            raise Unauthenticated(Word.FORBIDDEN, "there is no token")
        return Caller(token)


class Events:
    """What Kubernetes has noted of any model."""

    def __init__(self, refusal: ServiceError | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self._refusal = refusal

    async def of_model(self, token: str, ref: ModelRef) -> list[Object]:
        """A warning, and what came before."""
        if self._refusal:
            raise self._refusal
        self.asked.append((token, ref.uid))
        return [
            _event("2026-03-01T11:41:07.120000Z", "Downloading", "9 nodes fetch the model.", "Normal"),
            _event("2026-03-01T12:00:03.500000Z", "ChecksumMismatch", "gpu-a-2: a file is damaged.", "Warning", 3),
        ]


def _event(time: str, reason: str, message: str, kind: str, times: int = 1) -> Object:
    series = {"series": {"count": times, "lastObservedTime": time}} if times > 1 else {}
    return {"eventTime": time, "reason": reason, "message": message, "type": kind, **series}


class Patches:
    """Keeps what somebody wants to have changed."""

    def __init__(self, refusal: ServiceError | None = None) -> None:
        self.sent: list[tuple[str, str, Object]] = []
        self._refusal = refusal

    async def patch(self, token: str, ref: ModelRef, patch: Object) -> None:
        """Note the token, the name of the model and the annotations."""
        if self._refusal:
            raise self._refusal
        self.sent.append((token, ref.name, patch["metadata"]["annotations"]))


async def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=40)
    parser.add_argument("--nodes", type=int, default=60)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    port = arguments.port or free_port()
    fleet = SimulatedFleet(arguments.models, arguments.nodes)
    application = simulated_pages(fleet, asyncio.Event(), Health()).application()
    async with serve_page(application, "127.0.0.1", port, None, Path(), Health()):
        print(f"http://127.0.0.1:{port}/", flush=True)
        while True:
            await asyncio.sleep(1)
            fleet.step()


if __name__ == "__main__":
    asyncio.run(main())

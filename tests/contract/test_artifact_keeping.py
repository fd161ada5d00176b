"""Whatever happens in whatever order, no Pod loses a file before its time, and in the end nothing is left over.

The keeper works on a real store, and the controller's own rules say which Pods use what; clocks and Pods are made up.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.chassis.health import Health
from ome.fetch.v1.fetch_pb2 import Use, UseQuestion
from ome.model.v1.model_pb2 import ModelRef
from services.controller.use import PodView, told_use, users
from services.fetcher.model.keeping import Keeper
from services.fetcher.model.roots import Roots
from services.fetcher.stop import StopFlag
from tests.support.origin import OriginServer
from tests.support.transfers import QUICK, acquire, contents_of, manifest_of, serve, small_model

ROOT, UID, PATH = "/models", "uid-1", "team/model"
GRACE_SECONDS = 600.0
MODELS = [small_model(seed, weights_bytes=5_000) for seed in (1, 2, 3)]
MANIFESTS = [manifest_of(model) for model in MODELS]
REF = ModelRef(name="model", uid=UID)


@dataclass
class Pod:
    """A Pod that has mounted what the path led to when it started."""

    view: PodView
    mounted: int
    content: dict[str, bytes]
    # When the controller hears of it, and of its end.
    heard_at: float
    # When the path ceased to lead to what it has mounted.
    released_at: float | None = None
    gone_at: float | None = None

    def sees(self) -> dict[str, bytes]:
        """What it reads now."""
        return contents_of(Path(f"/proc/self/fd/{self.mounted}/"))


@dataclass
class World:
    """A node, its Pods, a controller that is a moment behind, and a clock."""

    host: Path
    server: OriginServer
    seconds: float = 1_000_000.0
    silent: bool = False
    # False after a rollback of the controller to a version that knows nothing of Pods.
    tells: bool = True
    pods: list[Pod] = field(default_factory=list)
    number: int | None = None

    def __post_init__(self) -> None:
        self.origins = [serve(self.server, model, f"/{number}") for number, model in enumerate(MODELS)]
        self.roots = Roots(self.host, [ROOT], 1.0, lambda: self.seconds)
        self.restart()

    def restart(self) -> None:
        """The fetcher's process ends, and another one begins: what was said to it is forgotten."""
        self.keeper = Keeper(
            self.roots, self, lambda _: GRACE_SECONDS, lambda _: None, lambda: self.seconds - 77, lambda: self.seconds
        )

    async def ask(self, questions: Sequence[UseQuestion]) -> list[Use]:
        """What the controller says by what it has heard."""
        if self.silent:
            raise Unavailable(Reason.UNAVAILABLE, "nobody answers")
        known = [
            pod.view
            for pod in self.pods
            if pod.heard_at <= self.seconds and (pod.gone_at is None or pod.gone_at > self.seconds)
        ]
        answers = []
        for question in questions:
            before = question.before.ToMilliseconds() / 1000 if question.HasField("before") else None
            answers.append(told_use(users(known, REF, question.root, question.paths, before), REF))
        return answers

    async def publish(self, number: int) -> None:
        """The model gets a revision."""
        store = self.roots.store(ROOT)
        await asyncio.to_thread(acquire, store, MANIFESTS[number], self.origins[number], StopFlag(), limits=QUICK)
        if number != self.number:
            self._release()
        await self.roots.publish(UID, f"{ROOT}/{PATH}", MANIFESTS[number].digest, leaving=().__contains__)
        self.number = number

    async def unpublish(self) -> None:
        """The model is deleted."""
        self._release()
        await self.roots.unpublish(UID, ROOT)
        self.number = None

    def _release(self) -> None:
        for pod in self.pods:
            if pod.released_at is None:
                pod.released_at = self.seconds

    def start_pod(self, lag_seconds: float) -> None:
        """A Pod starts and mounts the path; the controller hears of it with less than a second's delay."""
        if self.number is None:
            return
        mounted = os.open(self.host / ROOT.lstrip("/") / PATH, os.O_PATH)
        view = PodView("team", f"pod-{len(self.pods)}", "n1", (f"{ROOT}/{PATH}",), None, int(self.seconds), True)
        self.pods.append(Pod(view, mounted, MODELS[self.number], self.seconds + lag_seconds))

    def end_pod(self, index: int, lag_seconds: float) -> None:
        """A Pod ends."""
        living = [pod for pod in self.pods if pod.gone_at is None]
        if living:
            living[index % len(living)].gone_at = self.seconds + lag_seconds

    def check(self) -> None:
        """No Pod that runs has lost anything before its time."""
        for pod in self.pods:
            held = self.seconds - pod.released_at if pod.released_at is not None else 0.0
            if pod.gone_at is None and held < GRACE_SECONDS:
                assert pod.sees() == pod.content


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 2)),
        st.tuples(st.just("delete")),
        st.tuples(st.just("pod"), st.floats(0.0, 0.9)),
        st.tuples(st.just("end"), st.integers(0, 9), st.floats(0.0, 5.0)),
        st.tuples(st.just("restart")),
        st.tuples(st.just("silence")),
        st.tuples(st.just("voice")),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 0.5, 1.0, 2.0, 30.0, 400.0])),
    ),
    max_size=20,
)


async def _live(world: World, steps: list[tuple[object, ...]]) -> None:
    async with world.roots.opened(Health()):
        for step in steps:
            match step:
                case ("publish", int(number)):
                    await world.publish(number)
                case ("delete",):
                    await world.unpublish()
                case ("pod", float(lag)):
                    world.start_pod(lag)
                case ("end", int(index), float(lag)):
                    world.end_pod(index, lag)
                case ("restart",):
                    world.restart()
                case ("silence",):
                    world.silent = True
                case ("voice",):
                    world.silent = False
                case ("wait", float(seconds)):
                    world.seconds += seconds
            await world.keeper.look()
            world.check()
        await world.unpublish()
        world.silent = False
        for _ in range(2000):
            wait = await world.keeper.look()
            world.check()
            if wait is None:
                break
            assert wait > 0
            world.seconds += wait
        assert await world.roots.releases() == []
        assert not any(world.roots.store(ROOT).holds(manifest.digest) for manifest in MANIFESTS)


POD, SLOW_POD = ("pod", 0.0), ("pod", 0.9)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
@example(steps=[("publish", 0), SLOW_POD, ("publish", 1)])
@example(steps=[("publish", 0), SLOW_POD, ("delete",)])
@example(steps=[("publish", 0), POD, ("publish", 1), ("publish", 0), ("wait", 2.0), ("publish", 2), ("wait", 30.0)])
@example(steps=[("publish", 0), POD, ("publish", 1), ("restart",), ("wait", 2.0), ("restart",), ("wait", 30.0)])
@example(steps=[("publish", 0), POD, ("silence",), ("delete",), ("wait", 400.0), ("voice",), ("wait", 30.0)])
@example(steps=[("publish", 0), POD, ("delete",), ("publish", 0), POD, ("end", 0, 0.0), ("delete",), ("wait", 30.0)])
def test_no_pod_loses_a_file_before_its_time_and_nothing_is_left_in_the_end(
    steps: list[tuple[object, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with OriginServer() as server:
        world = World(tmp_path_factory.mktemp("host"), server)
        try:
            asyncio.run(_live(world, steps))
        finally:
            for pod in world.pods:
                os.close(pod.mounted)


async def test_a_revision_that_is_gone_back_to_is_not_told_as_one_that_goes(tmp_path: Path) -> None:
    with OriginServer() as server:
        world = World(tmp_path, server)
        async with world.roots.opened(Health()):
            for number in (0, 1):
                await world.publish(number)
            assert [each.artifact.digest for each in await world.keeper.kept(UID)] == [MANIFESTS[0].digest]
            await world.publish(0)
            assert [each.artifact.digest for each in await world.keeper.kept(UID)] == [MANIFESTS[1].digest]
            await world.unpublish()
            assert len(await world.keeper.kept(UID)) == 2


async def test_files_go_with_their_name_once_a_controller_says_that_it_knows_of_no_pods(tmp_path: Path) -> None:
    with OriginServer() as server:
        world = World(tmp_path, server)
        async with world.roots.opened(Health()):
            await world.publish(0)
            await world.unpublish()
            world.seconds += 2.0
            world.silent = True
            wait = await world.keeper.look()
            assert wait is not None
            assert world.roots.store(ROOT).holds(MANIFESTS[0].digest)

            world.tells = False
            world.seconds += wait

            assert await world.keeper.look() is None
            assert not world.roots.store(ROOT).holds(MANIFESTS[0].digest)

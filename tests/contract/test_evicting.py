"""What giving up copies promises, with real files on a real disk that is full."""

import asyncio
import os
import random
import shutil
import time
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.chassis.health import Health
from libs.model.eviction import Watermarks
from ome.fetch.v1.fetch_pb2 import (
    GOAL_HOLD,
    RESIDENCY_EVICTABLE,
    RESIDENCY_EVICTED,
    RESIDENCY_UNSPECIFIED,
    Assignment,
    PodUse,
    Residency,
    Use,
    UseQuestion,
)
from services.fetcher.model.evicting import Evictor
from services.fetcher.model.keeping import Keeper
from services.fetcher.model.removal import Stay
from services.fetcher.model.roots import Roots
from services.fetcher.stop import StopFlag
from services.fetcher.store.scopes import Claimant
from services.fetcher.transfer.acquire import acquire
from tests.support.demands import clairvoyant, plain_lru, trace
from tests.support.origin import OriginServer
from tests.support.small_disk import small_disk
from tests.support.transfers import QUICK, contents_of, manifest_of, serve, small_model

ROOT = "/models"
MIB = 1 << 20
DEADLINE_SECONDS = 20.0
EVERYBODY = Claimant("somebody", ("everybody",))
pytestmark = pytest.mark.asyncio


class Pods:
    """Which models Pods use, as a controller would say it; it may not answer."""

    def __init__(self) -> None:
        self.using: set[str] = set()
        self.silent = False
        self.tells = True

    async def ask(self, questions: Sequence[UseQuestion]) -> list[Use]:
        """The answers."""
        if self.silent:
            raise Unavailable(Reason.UNAVAILABLE, "the controller is away")
        holder = PodUse(namespace="serving", name="llama-0")
        return [Use(pods=1, users=[holder]) if each.model_uid in self.using else Use() for each in questions]


class Ground:
    """A node with a disk of 10 MiB, and models of some MiB to put there."""

    def __init__(
        self, folder: Path, server: OriginServer, release_time: Callable[[], float | None], roots: Sequence[str]
    ) -> None:
        self.roots = Roots(folder, roots, 1.0, release_time)
        self.pods = Pods()
        self.assigned: dict[str, Assignment] = {}
        self.changed: list[str] = []
        self.busy: set[str] = set()
        self._folder = folder
        self._server = server
        self.keeper = Keeper(
            self.roots,
            self.pods,
            lambda _: 3600.0,
            lambda _: None,
            stay=lambda uid, digest: Stay.REVISION if digest in self.assigned[uid].kept_revisions else Stay.NOT,
        )
        self.evictor = self.new_evictor()

    def new_evictor(self) -> Evictor:
        """As after a restart: what was said of use is forgotten."""

        async def collect() -> None:
            await self.roots.collect([])

        return Evictor(
            self.roots,
            self.pods,
            lambda: self.assigned,
            self.busy.__contains__,
            collect,
            self.changed.append,
            Watermarks(),
            self.keeper.give_up_revisions,
        )

    async def hold(
        self,
        uid: str,
        mebibytes: float,
        residency: Residency = RESIDENCY_EVICTABLE,
        age_seconds: float = 0.0,
        root: str = ROOT,
    ) -> str:
        """Fetch a model and publish it, so long ago; returns its digest."""
        digest = await self.fetch(uid, mebibytes, root)
        await self.name(uid, digest, residency, age_seconds, root)
        return digest

    async def fetch(self, uid: str, mebibytes: float, root: str = ROOT) -> str:
        """Fetch a model; returns its digest."""
        content = small_model(seed=zlib.crc32(uid.encode()), weights_bytes=int(mebibytes * MIB))
        manifest = manifest_of(content)
        origin = serve(self._server, content, f"/{uid}")
        await asyncio.to_thread(acquire, self.roots.store(root), manifest, origin, StopFlag(), EVERYBODY, limits=QUICK)
        return manifest.digest

    async def name(self, uid: str, digest: str, residency: Residency, age_seconds: float, root: str = ROOT) -> None:
        """Publish what is there."""
        await self.roots.publish(uid, f"{root}/{uid}", digest, leaving=().__contains__)
        self.assigned[uid] = Assignment(goal=GOAL_HOLD, residency=residency)
        then = time.time() - age_seconds
        os.utime(self._folder / root[1:] / ".ome" / "owners" / f"{uid}.json", (then, then))

    async def lacking(self, mebibytes: float) -> int:
        """What a model of so many MiB would miss."""
        [capacity] = await self.roots.capacities()
        return int(mebibytes * MIB) - capacity.free_bytes

    async def make_room(self, mebibytes: float) -> bool:
        """Make room for a model of so many MiB."""
        return await self.evictor.make_room(ROOT, lambda: self.lacking(mebibytes))

    def there(self) -> set[str]:
        """Models that readers find."""
        return {entry.name for entry in (self._folder / "models").iterdir() if entry.name != ".ome"}

    def free_mebibytes(self) -> float:
        """Room on the disk."""
        status = os.statvfs(self._folder / "models")
        return status.f_bavail * status.f_frsize / MIB

    async def away(self, uid: str) -> str:
        return await self.evictor.away(uid, self.assigned[uid])


@asynccontextmanager
async def ground(
    tmp_path: Path, release_time: Callable[[], float | None] = lambda: None, roots: Sequence[str] = (ROOT,)
) -> AsyncIterator[Ground]:
    (tmp_path / "models").mkdir()
    with small_disk(tmp_path / "models", 10 * MIB), OriginServer() as server:
        made = Ground(tmp_path, server, release_time, roots)
        async with made.roots.opened(Health()):
            yield made


async def until(reached: Callable[[], bool], what: str) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


async def test_room_is_made_by_the_model_that_was_not_used_for_longest(tmp_path: Path) -> None:
    async with ground(tmp_path) as node:
        await node.hold("old", 3, age_seconds=300)
        await node.hold("older", 3, age_seconds=900)
        await node.hold("kept", 3, RESIDENCY_UNSPECIFIED, age_seconds=9000)
        assert await node.make_room(3)
        assert node.there() == {"old", "kept"}
        assert node.free_mebibytes() >= 3
        assert node.changed == ["older"]
        assert "come back when a Pod uses it" in await node.away("older")
        assert await node.away("old") == ""


async def test_nothing_goes_for_what_cannot_be_had(tmp_path: Path) -> None:
    async with ground(tmp_path) as node:
        await node.hold("old", 3)
        await node.hold("kept", 5, RESIDENCY_UNSPECIFIED)
        assert not await node.make_room(6)
        assert node.there() == {"old", "kept"}


async def test_what_a_pod_uses_stays_and_so_does_everything_while_nobody_tells(tmp_path: Path) -> None:
    async with ground(tmp_path) as node:
        await node.hold("used", 4, age_seconds=900)
        await node.hold("idle", 4)
        node.pods.using = {"used"}
        assert await node.make_room(4)
        assert node.there() == {"used"}
        node.pods.using = set()
        node.pods.silent = True
        assert not await node.make_room(9)
        assert node.there() == {"used"}


async def test_use_makes_a_model_the_last_to_go(tmp_path: Path) -> None:
    async with ground(tmp_path) as node:
        await node.hold("a", 4, age_seconds=900)
        await node.hold("b", 4, age_seconds=300)
        node.pods.using = {"a", "b"}
        assert not await node.make_room(4)
        node.pods.using = {"a"}
        assert not await node.make_room(9)
        node.pods.using = set()
        assert await node.make_room(4)
        assert node.there() == {"a"}


async def test_a_copy_that_another_model_keeps_is_not_given_up(tmp_path: Path) -> None:
    async with ground(tmp_path) as node:
        digest = await node.hold("evictable", 6, age_seconds=900)
        await node.name("always", digest, RESIDENCY_UNSPECIFIED, 900)
        assert not await node.make_room(6)
        await node.name("always", digest, RESIDENCY_EVICTABLE, 900)
        assert await node.make_room(6)
        assert node.there() == set()


async def test_what_is_just_being_replaced_stays(tmp_path: Path) -> None:
    async with ground(tmp_path) as node:
        await node.hold("a", 6, age_seconds=900)
        node.busy.add("a")
        assert not await node.make_room(6)


async def test_an_evicted_model_stays_away_over_a_restart_and_comes_back_when_somebody_asks(tmp_path: Path) -> None:
    async with ground(tmp_path) as node:
        await node.hold("a", 6, age_seconds=900)
        assert await node.make_room(6)
        store = node.roots.store(ROOT)
        store.close()
        store.open()
        node.evictor = node.new_evictor()
        assert await node.away("a")
        node.assigned["a"].demand = "2026-11-28"
        assert await node.away("a") == ""
        node.assigned["a"].demand = ""
        assert await node.away("a") == "", "what was once asked for has come"


async def test_an_evicted_model_comes_back_when_it_may_no_longer_be_evicted_or_is_forgotten(tmp_path: Path) -> None:
    async with ground(tmp_path) as node:
        await node.hold("a", 4, age_seconds=900)
        await node.hold("b", 4, age_seconds=900)
        assert await node.make_room(9)
        node.assigned["a"].residency = RESIDENCY_UNSPECIFIED
        assert await node.away("a") == ""
        await node.evictor.forget("b")
        assert await node.away("b") == ""


async def test_who_asks_for_it_has_a_model_away_whatever_its_residency(tmp_path: Path) -> None:
    async with ground(tmp_path) as node:
        await node.hold("a", 1, RESIDENCY_EVICTED)
        assert "as the annotation ome.io/artifact-residency or" in await node.away("a")


async def test_above_the_high_watermark_copies_go_down_to_the_low_one_and_come_back_when_there_is_room(
    tmp_path: Path,
) -> None:
    async with ground(tmp_path) as node:
        for number in range(5):
            await node.hold(f"m{number}", 1.75, age_seconds=7200 - number)
        loop = asyncio.create_task(node.evictor.run())
        await until(lambda: node.there() == {"m1", "m2", "m3", "m4"}, "one model is evicted")
        # Its link goes before its files.
        await until(lambda: node.free_mebibytes() >= 2.5, "its files are gone")
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        assert 2.5 <= node.free_mebibytes() < 4.5

        node.changed.clear()
        await node.roots.unpublish("m1", ROOT)
        await node.roots.unpublish("m2", ROOT)
        del node.assigned["m1"], node.assigned["m2"]
        node.evictor = node.new_evictor()
        loop = asyncio.create_task(node.evictor.run())
        await until(lambda: node.changed == ["m0"], "it is its turn")
        assert await node.away("m0") == ""
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def test_a_watermark_takes_nothing_that_was_fetched_a_moment_ago_nor_what_a_pod_uses(tmp_path: Path) -> None:
    async with ground(tmp_path) as node:
        await node.hold("new", 3)
        await node.hold("used", 3, age_seconds=7200)
        await node.hold("idle", 3, age_seconds=7200)
        node.pods.using = {"used"}
        loop = asyncio.create_task(node.evictor.run())
        await until(lambda: "idle" not in node.there(), "what nobody uses is evicted")
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        assert node.there() == {"new", "used"}


async def revise(node: Ground, uid: str, mebibytes: float, kept: int) -> None:
    """Give a model another revision, and have it keep so many earlier ones."""
    earlier = [(await node.roots.publications(uid))[0].artifact.digest, *node.assigned[uid].kept_revisions]
    digest = await node.fetch(uid, mebibytes)
    await node.roots.publish(uid, f"{ROOT}/{uid}", digest, leaving=().__contains__)
    node.assigned[uid].kept_revisions[:] = earlier[:kept]


async def test_earlier_revisions_go_before_any_model_and_those_first_that_were_left_first(tmp_path: Path) -> None:
    moments = iter(range(1_000_000, 2_000_000))
    async with ground(tmp_path, lambda: float(next(moments))) as node:
        await node.hold("idle", 2, age_seconds=9000)
        await node.hold("m", 2, RESIDENCY_UNSPECIFIED)
        first = (await node.roots.publications("m"))[0].artifact.digest
        await revise(node, "m", 2.5, kept=2)
        second = (await node.roots.publications("m"))[0].artifact.digest
        await revise(node, "m", 1.5, kept=2)
        await node.keeper.look()
        store = node.roots.store(ROOT)
        assert store.holds(first)
        assert store.holds(second)
        assert await node.make_room(3)
        assert (store.holds(first), store.holds(second)) == (False, True)
        assert await node.make_room(6)
        assert not store.holds(second)
        assert node.there() == {"idle", "m"}


async def test_an_earlier_revision_that_a_pod_uses_makes_no_room(tmp_path: Path) -> None:
    async with ground(tmp_path, time.time) as node:
        await node.hold("m", 4, RESIDENCY_UNSPECIFIED)
        first = (await node.roots.publications("m"))[0].artifact.digest
        await revise(node, "m", 4.5, kept=1)
        node.pods.using = {"m"}
        assert not await node.make_room(4)
        assert node.roots.store(ROOT).holds(first)


@pytest.mark.parametrize(("silent", "ago_seconds"), [(False, 7200.0), (True, 7200.0), (True, 0.0)])
async def test_an_earlier_revision_makes_no_room_before_it_is_known_that_no_pod_uses_it_however_old_it_is(
    tmp_path: Path, silent: bool, ago_seconds: float
) -> None:
    # Pods may hold copies for an hour here, which is not for how long a revision is kept for going back.
    async with ground(tmp_path, lambda: time.time() - ago_seconds) as node:
        await node.hold("m", 4, RESIDENCY_UNSPECIFIED)
        first = (await node.roots.publications("m"))[0].artifact.digest
        await revise(node, "m", 4.5, kept=1)
        node.pods.using, node.pods.silent = {"m"}, silent
        assert not await node.make_room(4)
        assert node.roots.store(ROOT).holds(first)


async def test_an_earlier_revision_stays_while_a_pod_may_have_followed_its_name_unheard_of(tmp_path: Path) -> None:
    async with ground(tmp_path, time.time) as node:
        await node.hold("m", 4, RESIDENCY_UNSPECIFIED)
        first = (await node.roots.publications("m"))[0].artifact.digest
        await revise(node, "m", 4.5, kept=1)
        assert not await node.make_room(4)
        assert node.roots.store(ROOT).holds(first)


async def test_it_is_known_how_much_pods_hold_of_what_has_lost_its_name(tmp_path: Path) -> None:
    async with ground(tmp_path, lambda: time.time() - 7200) as node:
        await node.hold("m", 4, RESIDENCY_UNSPECIFIED)
        await revise(node, "m", 4.5, kept=0)
        assert await node.keeper.held_bytes(ROOT) == 0, "nobody has been asked yet"
        node.pods.using = {"m"}
        keeper = Keeper(node.roots, node.pods, lambda _: 86400.0, lambda _: None)
        await keeper.look()
        assert 4 * MIB <= await keeper.held_bytes(ROOT) < 4.5 * MIB
        assert await keeper.held_bytes(f"{ROOT}/other") == 0
        node.pods.using = set()
        assert not await node.make_room(4)


async def test_an_earlier_revision_goes_when_it_is_not_to_be_kept_any_more(tmp_path: Path) -> None:
    async with ground(tmp_path, time.time) as node:
        await node.hold("m", 2, RESIDENCY_UNSPECIFIED)
        first = (await node.roots.publications("m"))[0].artifact.digest
        await revise(node, "m", 2.5, kept=1)
        await node.keeper.look()
        assert [each.revision for each in await node.keeper.kept("m") if each.artifact.digest == first] == [True]
        node.assigned["m"].kept_revisions[:] = []
        keeping = asyncio.create_task(node.keeper.run())
        await until(lambda: not node.roots.store(ROOT).holds(first), "the earlier revision is gone")
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_files_go_by_the_rule_for_all_that_loses_its_name_and_room_is_there_when_the_answer_comes(
    tmp_path: Path,
) -> None:
    async with ground(tmp_path, time.time) as node:
        keeper = Keeper(node.roots, node.pods, lambda _: 3600.0, lambda _: None)
        keeping = asyncio.create_task(keeper.run())
        await node.hold("a", 6, age_seconds=900)
        assert await node.make_room(6)
        assert node.free_mebibytes() >= 6
        assert not await node.roots.releases()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_leftovers_go_before_any_model_does(tmp_path: Path) -> None:
    async with ground(tmp_path) as node:
        await node.hold("a", 4, age_seconds=900)
        digest = await node.hold("gone", 4)
        store = node.roots.store(ROOT)
        # A crash may leave a copy without a name.
        record = tmp_path / "models" / ".ome" / "owners" / "gone.json"
        (tmp_path / "models" / "gone").unlink()
        record.unlink()
        store.close()
        reopened = Roots(tmp_path, [ROOT], 1.0)
        async with reopened.opened(Health()):
            node.roots = reopened
            node.evictor = node.new_evictor()
            assert reopened.store(ROOT).holds(digest)
            assert await node.make_room(4)
            assert node.there() == {"a"}
            assert len(contents_of(tmp_path / "models" / "a")) == 4


async def test_leftovers_that_are_enough_keep_models_above_the_high_watermark(tmp_path: Path) -> None:
    async with ground(tmp_path) as node:
        await node.hold("a", 4, age_seconds=7200)
        await node.hold("gone", 5)
        store = node.roots.store(ROOT)
        (tmp_path / "models" / "gone").unlink()
        (tmp_path / "models" / ".ome" / "owners" / "gone.json").unlink()
        store.close()
        reopened = Roots(tmp_path, [ROOT], 1.0)
        async with reopened.opened(Health()):
            node.roots = reopened
            node.evictor = node.new_evictor()
            await node.evictor.look()
            assert node.free_mebibytes() > 5
            assert node.there() == {"a"}


async def test_two_roots_on_one_full_disk_give_up_what_is_over_once(tmp_path: Path) -> None:
    roots = [f"{ROOT}/first", f"{ROOT}/second"]
    async with ground(tmp_path, time.time, roots) as node:
        for root in roots:
            for number in range(2):
                await node.hold(f"{root[8:]}-{number}", 2.2, age_seconds=7200 - number, root=root)
        await node.evictor.look()
        assert node.changed == ["first-0"]


async def test_a_root_that_cannot_be_read_keeps_no_other_one_from_its_watermark(tmp_path: Path) -> None:
    roots = [f"{ROOT}/first", f"{ROOT}/second"]
    async with ground(tmp_path, time.time, roots) as node:
        for root in roots:
            for number in range(2):
                await node.hold(f"{root[8:]}-{number}", 2.2, age_seconds=7200 - number, root=root)
        # What is given up is recorded first.
        shutil.rmtree(tmp_path / "models" / "first" / ".ome" / "evicted", ignore_errors=True)
        (tmp_path / "models" / "first" / ".ome" / "evicted").touch()
        with pytest.raises(Unavailable):
            await node.roots.evict("first-0", roots[0], 1, "")
        await node.evictor.look()
        assert node.changed == ["second-0"]


async def test_a_model_that_is_to_be_away_takes_nobodys_turn_to_come_back(tmp_path: Path) -> None:
    async with ground(tmp_path) as node:
        await node.hold("asked", 4, age_seconds=900)
        await node.hold("idle", 4, age_seconds=600)
        assert await node.make_room(9)
        node.assigned["asked"].residency = RESIDENCY_EVICTED
        node.changed.clear()
        await node.evictor.look()
        assert node.changed == ["idle"]
        assert await node.away("idle") == ""


async def test_a_disk_of_ten_shares_thirty_of_models_by_a_trace_of_demands_and_refuses_none_that_room_could_be_made_for(
    tmp_path: Path,
) -> None:
    """Mebibytes in place of gigabytes, and otherwise all of it: store, records, admission, Pods that use models."""
    dice = random.Random(4)
    sizes: dict[str, int] = {}
    while sum(sizes.values()) < 30 * MIB:
        sizes[f"m{len(sizes):02}"] = dice.randrange(MIB // 2, 3 * MIB)
    demands = list(trace(4, sizes, 100))
    hits, refused = 0, list[str]()
    async with ground(tmp_path) as node:
        room = int(node.free_mebibytes() * MIB)
        for name, used in demands:
            node.pods.using = set(used)
            before = node.there()
            if name in before:
                hits += 1
            elif not await came(node, name, sizes[name]):
                refused.append(name)
                continue
            await node.roots.note_use(name, ROOT)
            assert before & used <= node.there(), "what Pods use stays"
    names = [name for name, _ in demands]
    ours, lru, best = (
        count / len(names) for count in (hits, plain_lru(sizes, names, room), clairvoyant(sizes, names, room))
    )
    total = sum(sizes.values()) / MIB
    print(f"{total:.1f} MiB on {room / MIB:.1f}: hit rate {ours:.2f}, plain LRU {lru:.2f}, clairvoyant {best:.2f}")
    # Two models that are in use leave room for any third.
    assert not refused
    assert ours >= lru - 0.05


async def came(node: Ground, name: str, size: int) -> bool:
    """Fetch a model as a download is: admitted, or admitted anew once room was made."""
    try:
        digest = await node.fetch(name, size / MIB)
    except Unavailable as error:
        # What a model takes beside its weights is little.
        if error.reason is not Reason.INSUFFICIENT_DISK or not await node.make_room(size / MIB + 0.1):
            return False
        digest = await node.fetch(name, size / MIB)
    await node.roots.readmit(name)
    await node.name(name, digest, RESIDENCY_EVICTABLE, 0)
    return True

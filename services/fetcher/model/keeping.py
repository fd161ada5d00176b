"""Keeps copies that have lost their name for as long as Pods use them, and removes them afterwards.

Owns the loop that asks the controller, and what it has said since this process began. What is to be removed is decided
in removal, and what there is to be decided about is kept by the store.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from libs.artifact.digest import digest_directory
from libs.artifact.places import STATE_DIRECTORY
from libs.chassis.errors import ServiceError
from ome.fetch.v1 import fetch_pb2
from services.fetcher.model.observed import Kept
from services.fetcher.model.removal import (
    SETTLED_SECONDS,
    Fate,
    Holder,
    Leaving,
    Stay,
    Use,
    Verdict,
    judge,
    seconds_until_question,
)
from services.fetcher.model.roots import Roots
from services.fetcher.store.paths import Place
from services.fetcher.store.releases import Release

_RETRY_SECONDS = 5.0
_log = structlog.get_logger()


def hold_seconds(most_seconds: float, assignment: fetch_pb2.Assignment | None) -> float:
    """For how long Pods may hold what a model has let go: a model may say less than the node does, and not more."""
    if assignment is None or not assignment.HasField("in_use_grace_seconds"):
        return most_seconds
    return min(most_seconds, max(0.0, float(assignment.in_use_grace_seconds)))


class UseSource(Protocol):
    """Whoever knows which Pods use something on this node."""

    @property
    def tells(self) -> bool:
        """Whether there is anybody who knows; False only by the word of a controller that does not."""
        ...

    async def ask(self, questions: Sequence[fetch_pb2.UseQuestion]) -> list[fetch_pb2.Use]:
        """One answer for each question. Raises a ServiceError when there are none."""
        ...


@dataclass
class _Case:
    """One release, for as long as it is there."""

    root: str
    release: Release
    # By the monotonic clock; the time of day may be set while the process runs.
    released_at: float
    use: Use | None = None
    # When the controller is to be asked, by the same clock.
    ask_at: float = 0.0

    @property
    def held(self) -> bool:
        """Whether it is known that a Pod uses it."""
        return self.use is not None and self.use.pods > 0


class Keeper:
    """Looks at what was let go whenever there may be news of it."""

    def __init__(
        self,
        roots: Roots,
        use: UseSource,
        grace_seconds: Callable[[str], float],
        changed: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], float] = time.time,
        stay: Callable[[str, str], Stay] = lambda model_uid, digest: Stay.NOT,
    ) -> None:
        """grace_seconds tells how long Pods may hold what a model, by its uid, has let go. stay tells why it keeps an
        artifact, by its digest, although nobody uses it.

        changed is called with the uid of a model about which there is something else to say. clock is never set, and
        time_of_day is that of the kubelet.
        """
        self._clock = clock
        self._time_of_day = time_of_day
        self._roots = roots
        self._use = use
        self.grace_seconds = grace_seconds
        self._changed = changed
        self._stay = stay
        self._cases: dict[tuple[str, Release], _Case] = {}
        self._removing: set[tuple[str, Release]] = set()
        self._unanswered_until = 0.0

    def look_again(self) -> None:
        """For how long Pods may hold copies may have changed."""
        self._roots.released.set()

    async def kept(self, model_uid: str) -> tuple[Kept, ...]:
        """What a model has let go and is still there, but for what has its name again."""
        # Until its files are gone, what is being removed is still there.
        let_go = {*await self._roots.releases(), *self._removing}
        present = sorted(
            (each for each in let_go if each[1].uid == model_uid), key=lambda each: (each[0], each[1].name)
        )
        if not present:
            return ()
        named = {
            (each.root, digest_directory(each.artifact.digest))
            for each in await self._roots.publications(model_uid)
            if each.intact
        }
        kept = []
        for root, release in present:
            if (root, release.copy) in named:
                continue
            artifact = await self._roots.artifact(root, release.digest)
            until = release.released_at + self.grace_seconds(model_uid)
            path = Place(root, release.path).path
            use, revision = self._case(root, release).use, self._stay_of(release) is not Stay.NOT
            kept.append(Kept(artifact, path, release.released_at, until, use, revision))
        return tuple(kept)

    async def held_bytes(self, root: str) -> int:
        """What the disk of a root gets back when the Pods that use what was let go there have ended.

        As far as the controller has said who they are. Raises Unavailable when the disk cannot be read.
        """
        held = {case.release.digest for (where, _), case in self._cases.items() if where == root and case.held}
        return sum([await self._roots.freed_bytes(root, digest) for digest in sorted(held)])

    async def name_use(self, model_uid: str, paths: Sequence[str]) -> Use | None:
        """Who uses a model by names that still stand, as the node sees them; None if that cannot be learnt now.

        Nobody, by a controller that knows of none.
        """
        places = map(self._roots.place, paths)
        questions = [
            fetch_pb2.UseQuestion(model_uid=model_uid, root=place.root, paths=[place.path]) for place in places
        ]
        try:
            return _merged(await self._use.ask(questions))
        except ServiceError as error:
            _log.info("use_unknown", model=model_uid, message=error.message)
            return None if self._use.tells else Use()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._roots.released.clear()
            delay: float | None = _RETRY_SECONDS
            try:
                delay = await self.look()
            except ServiceError as error:
                _log.warning("releases_kept", reason=error.reason, message=error.message)
            try:
                async with asyncio.timeout(delay):
                    await self._roots.released.wait()
            except TimeoutError:
                continue

    async def look(self) -> float | None:
        """Look once at everything that was let go, and remove what goes; in how many seconds to look again, if at all.

        Not to be called while run works. A root whose disk cannot be read holds up no other.
        """
        present, unread = await self._present()
        self._cases = {each: self._case(*each) for each in present}
        now = self._clock()
        leaving = []
        for case in [*self._cases.values()]:
            try:
                if case.root not in unread and not await self._stays(case):
                    leaving.append(case)
            except ServiceError as error:
                # Whether it has a name again is not known, and so it stays.
                _log.warning("releases_kept", root=case.root, reason=error.reason, message=error.message)
                unread.add(case.root)
        await self._ask([case for case in leaving if case.ask_at <= now])
        now = self._clock()
        going: defaultdict[str, list[Release]] = defaultdict(list)
        waits = [_RETRY_SECONDS] if unread else []
        for case in leaving:
            verdict = self._judge(case, now)
            if verdict.fate is Fate.GOES:
                going[case.root].append(case.release)
            else:
                waits += [verdict.remaining_seconds, max(case.ask_at, self._unanswered_until) - now]
        for root, releases in going.items():
            if not await self._remove(root, releases):
                waits.append(_RETRY_SECONDS)
        return min(waits, default=None)

    async def _present(self) -> tuple[list[tuple[str, Release]], set[str]]:
        """What was let go and is there, by root, and the roots that cannot be read: of these what was there last."""
        present: list[tuple[str, Release]] = []
        unread = set()
        for root in self._roots.usable:
            try:
                present += [(root, each) for each in await self._roots.releases_in(root)]
            except ServiceError as error:
                _log.warning("releases_kept", root=root, reason=error.reason, message=error.message)
                unread.add(root)
                present += [each for each in self._cases if each[0] == root]
        return present, unread

    async def give_up_revisions(self, root: str, lacking: Callable[[], Awaitable[int]]) -> None:
        """Remove earlier revisions that are kept in a root for going back, until nothing is lacking: those first that
        were let go of first. What a Pod uses, or of which that is not known, stays.

        lacking tells how many bytes are missing at the moment. Raises Unavailable when a disk cannot be read.
        """
        present = await self._roots.releases_in(root)
        kept = [self._case(root, release) for release in present if self._stay_of(release) is Stay.REVISION]
        # Of one that has just lost its name the controller may not have heard of all Pods.
        settled = self._clock() - SETTLED_SECONDS
        kept = [case for case in kept if case.released_at <= settled]
        if not kept:
            return
        for case in kept:
            # What was said when the copy lost its name may be another now.
            case.use = None
        await self._ask(kept)
        for case in sorted(kept, key=lambda each: (each.release.released_at, each.release.name)):
            if await lacking() <= 0:
                return
            # For how long Pods may hold what was let go does not count: this was kept for another reason.
            if case.use is not None and not case.use.pods:
                await self._remove(root, [case.release])

    async def _remove(self, root: str, releases: Sequence[Release]) -> bool:
        """Remove copies, and say so; whether the disk lets them be removed."""
        self._removing |= {(root, release) for release in releases}
        try:
            kept = await self._roots.forget_releases(root, releases)
        except ServiceError as error:
            # The models that are to go meet the same when they look for what is left of them, and say so.
            _log.warning("copies_not_removed", root=root, reason=error.reason, message=error.message)
            return False
        else:
            for message in kept:
                _log.warning("foreign_files_kept", root=root, message=message)
            for release in releases:
                _log.info("copy_released", model=release.uid, root=root, path=release.path, digest=release.digest)
            return True
        finally:
            self._removing -= {(root, release) for release in releases}
            for release in releases:
                self._cases.pop((root, release), None)
                self._changed(release.uid)

    async def _stays(self, case: _Case) -> bool:
        """Whether a copy stays without a name, although nobody uses it; one that has its name again needs no record."""
        if self._stay_of(case.release) is Stay.NOT:
            return False
        named = await self._roots.publications(case.release.uid)
        return not any(
            each.intact and (each.root, each.artifact.digest) == (case.root, case.release.digest) for each in named
        )

    def _stay_of(self, release: Release) -> Stay:
        # What a repair has put aside is no revision of its own.
        whole = release.copy == digest_directory(release.digest)
        return self._stay(release.uid, release.digest) if whole else Stay.NOT

    async def _ask(self, cases: Sequence[_Case]) -> None:
        now = self._clock()
        if not cases or now < self._unanswered_until:
            return
        try:
            answers = await self._use.ask([_question(case) for case in cases])
        except ServiceError as error:
            if not self._use.tells:
                # After a rollback of the controller nobody would ever answer: files go with their name, as before.
                for case in cases:
                    case.use = Use()
                return
            # What is not known to be unused stays.
            self._unanswered_until = self._clock() + _RETRY_SECONDS
            _log.warning("use_unknown", questions=len(cases), reason=error.reason, message=error.message)
            return
        for case, answer in zip(cases, answers, strict=True):
            use = _read(answer)
            if use != case.use:
                self._changed(case.release.uid)
            case.use = use
            case.ask_at = now + seconds_until_question(now - case.released_at, asked_before=True)

    def _case(self, root: str, release: Release) -> _Case:
        if (root, release) not in self._cases:
            age = max(0.0, self._time_of_day() - release.released_at)
            now = self._clock()
            ask_at = now + seconds_until_question(age, asked_before=False)
            self._cases[root, release] = _Case(root, release, now - age, ask_at=ask_at)
        return self._cases[root, release]

    def _judge(self, case: _Case, now: float) -> Verdict:
        grace = self.grace_seconds(case.release.uid)
        return judge(Leaving(for_seconds=now - case.released_at, grace_seconds=grace, use=case.use))


def _question(case: _Case) -> fetch_pb2.UseQuestion:
    release = case.release
    own = Place(case.root, f"{STATE_DIRECTORY}/artifacts/{digest_directory(release.digest)}").path
    question = fetch_pb2.UseQuestion(
        model_uid=release.uid, root=case.root, paths=[Place(case.root, release.path).path, own]
    )
    question.before.FromMilliseconds(int(release.released_at * 1000))
    return question


def _read(said: fetch_pb2.Use) -> Use:
    return Use(said.pods, tuple(Holder(each.namespace, each.name) for each in said.users))


def _merged(answers: Sequence[fetch_pb2.Use]) -> Use:
    uses = [_read(each) for each in answers]
    return max(uses, key=lambda use: use.pods, default=Use())

"""The loop of one model: observe once, plan once, apply in order, say how it stands.

Owns what is remembered between two passes (setbacks, facts) and the boundary at which a model's error ends: no model
can take the others down with it.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from libs.artifact.errors import InvalidValue
from libs.artifact.names import node_key, split_node_key
from libs.artifact.places import overlap
from libs.artifact.reasons import Reason
from libs.artifact.uri import LocalUri, VendorUri, allows_incomplete, parse_uri
from libs.chassis.errors import Conflict, Invalid, ServiceError, Unavailable
from libs.model.findings import defects_sentence, is_refused
from libs.model.kinds import kind_numbered, shown_ref
from libs.model.problems import is_defect, problem_of
from ome.fetch.v1.fetch_pb2 import (
    GOAL_ABSENT,
    GOAL_HOLD,
    GOAL_KEEP,
    PROBLEM_CLASS_INVALID,
    Assignment,
    NodeModelState,
    Problem,
)
from ome.model.v1.model_pb2 import (
    REASON_INCOMPLETE,
    REASON_PATH_CONFLICT,
    REASON_PATH_OCCUPIED,
    ModelRef,
    NodePhase,
)
from ome.parser.v1.parser_pb2 import ModelFacts
from services.fetcher import metrics
from services.fetcher.fleet.assignments import Assignments
from services.fetcher.fleet.reports import Reports
from services.fetcher.fleet.shared_facts import FactsExchange
from services.fetcher.model.downloads import Downloads, Order
from services.fetcher.model.evicting import Evictor
from services.fetcher.model.keeping import Keeper
from services.fetcher.model.observed import Copy, Desired, Observed, Parsing, PublishedName, Setback, Spared
from services.fetcher.model.parser_client import ParserClient
from services.fetcher.model.planning import (
    Abandon,
    Action,
    Parse,
    Prioritize,
    Publish,
    Refuse,
    Reserve,
    StartTransfer,
    StopTransfer,
    Unpublish,
    describe,
    incomplete,
    is_due,
    next_attempt_at,
    plan,
    retry_delay_seconds,
)
from services.fetcher.model.removal import Fate, Leaving, Stay, judge, seconds_until_question
from services.fetcher.model.roots import Roots
from services.fetcher.model.trail import Trail
from services.fetcher.model.verifying import Verifier
from services.fetcher.settings import Settings
from services.fetcher.store.artifacts import ForeignLeftovers, PathTaken
from services.fetcher.store.paths import Place, Tenant, check_owner, default_path, is_foreign
from services.fetcher.store.scopes import Claimant, claimant_of

# No appointment is nearer than this, whatever clocks do.
_SOONEST_SECONDS = 0.02
# Looking whether a path has become free, or a model can be removed, costs nothing, and whoever has seen to it waits.
_PATH_RETRY_SECONDS = 15.0
# For so long damage of a published model is shown, at the least: a status of many nodes is written once a second, and a
# repair may take less.
_TOLD_SECONDS = 3.0
_log = structlog.get_logger()

# (identity of the files, schema path, whether they may be incomplete): what is said of the files depends on these.
_FactsKey = tuple[str, str, bool]


@dataclass
class Memory:
    """What one pass leaves for the next about one model."""

    attempts: int = 0
    setback: Setback | None = None
    # Roots and digests that transfers were begun for.
    fetched: set[tuple[str, str]] = field(default_factory=set)
    # Seconds since the epoch when the last pass began.
    looked_at: float = 0.0
    # Time of the monotonic clock when the last of them was.
    fetch_began: float = 0.0
    parse_attempts: int = 0
    parsing: Parsing | None = None
    parsed: _FactsKey | None = None
    # Key of the shared facts that was said last.
    said_facts: str = ""
    # The digest of an assignment to hold nothing, once what earlier processes left of it is among fetched.
    left: str = ""
    # Roots and digests of which it was said that files of somebody else stay.
    told: set[tuple[str, str]] = field(default_factory=set)
    # Time of the monotonic clock when the damage that is known of may be repaired.
    repair_at: float | None = None
    # Time of the monotonic clock since when it is known that no object names the model.
    unclaimed_since: float | None = None
    # What the controller said about the time since when the node is not meant to hold the model, in milliseconds, and
    # that time by the monotonic clock.
    unselected: tuple[int, float] | None = None
    # Time of the monotonic clock when it is looked again whether a name that is to go may go.
    spared_until: float | None = None


class ModelLoop:
    """Brings about what is assigned to the node, one model at a time; reconcile() is for a KeyedQueue."""

    def __init__(
        self,
        settings: Settings,
        assignments: Assignments,
        roots: Roots,
        downloads: Downloads,
        reports: Reports,
        parser: ParserClient,
        facts: FactsExchange,
        keeper: Keeper,
        evictor: Evictor,
        verifier: Verifier,
        trail: Trail,
    ) -> None:
        self._settings = settings
        self._assignments = assignments
        self._roots = roots
        self._downloads = downloads
        self._reports = reports
        self._parser = parser
        self._facts = facts
        self._keeper = keeper
        self._evictor = evictor
        self._verifier = verifier
        self._trail = trail
        self._memory: dict[str, Memory] = {}
        self._phases: dict[str, NodePhase] = {}

    def wanted_digests(self) -> set[str]:
        """Digests of all artifacts that the node is to hold."""
        assignments = self._assignments.by_model().items()
        return {
            each.artifact.digest
            for model_uid, each in assignments
            if each.goal != GOAL_ABSENT and each.artifact.digest and not self._evictor.is_away(model_uid, each)
        }

    def stay(self, model_uid: str, digest: str) -> Stay:
        """Why a model keeps an artifact that has lost its name: also while nobody has said what it is to do, as after
        NATS has lost its data.
        """
        assignment = self._assignments.of(model_uid)
        if assignment is None:
            unknown = model_uid in self._memory and not self.knows_what_is_wanted()
            return Stay.REVISION if unknown else Stay.NOT
        if assignment.goal == GOAL_ABSENT or self._evictor.is_away(model_uid, assignment):
            return Stay.NOT
        if digest == assignment.artifact.digest:
            return Stay.DESIRED
        return Stay.REVISION if digest in assignment.kept_revisions else Stay.NOT

    def expect(self, model_uid: str) -> None:
        """Take note of a model that has a name here, before it is looked at for the first time."""
        self._memory.setdefault(model_uid, Memory())

    def models_of(self, digest: str) -> list[str]:
        """Uids of the models that are to hold an artifact, or that may show it as long as another one has not come."""
        entries = ((split_node_key(key)[1], entry.value) for key, entry in self._assignments.entries.items())
        return [uid for uid, each in entries if digest in (each.artifact.digest, *each.kept_revisions)]

    def _claimants_of(self, digest: str) -> list[Claimant]:
        """The models that are to hold an artifact, as claimants."""
        return [
            claimant_of(model_uid, assignment.trust_scopes)
            for model_uid, assignment in self._assignments.by_model().items()
            if assignment.goal != GOAL_ABSENT
            and assignment.artifact.digest == digest
            and not self._evictor.is_away(model_uid, assignment)
        ]

    def retry_for_room(self) -> list[str]:
        """Room was freed: uids of the models that lacked it, whose next attempt is due now."""
        short = []
        for model_uid, memory in self._memory.items():
            if due := self._roots.room.due(memory.setback):
                memory.setback = due
                short.append(model_uid)
        return short

    def unassigned_models(self) -> list[str]:
        """Uids of the models that the node has something of although no assignment says so."""
        assigned = {split_node_key(key)[1] for key in self._assignments.entries}
        return [model_uid for model_uid in self._memory if model_uid not in assigned]

    def knows_what_is_wanted(self) -> bool:
        """Whether what no assignment names is of no use to any model.

        Not where there are no assignments at all, or not of all that has a name here, or not of known contents: so it
        is after NATS has lost its data, until the controller has said everything again.
        """
        entries = [entry.value for entry in self._assignments.entries.values()]
        if not entries or self.unassigned_models():
            return False
        return all(each.goal != GOAL_KEEP or each.artifact.digest for each in entries)

    async def reconcile(self, model_uid: str) -> float | None:
        """Bring one model closer to what is desired; in how many seconds to look again, if at all."""
        entry = self._assignments.entries.get(node_key(self._settings.node_name, model_uid))
        memory = self._memory.setdefault(model_uid, Memory())
        memory.looked_at = time.time()
        if entry is None or entry.value.goal == GOAL_ABSENT:
            await self._evictor.forget(model_uid)
        if entry is None and not await self._has_anything(model_uid, memory):
            self._reports.forget(model_uid)
            self._verifier.forget(model_uid)
            self._count(model_uid, None)
            del self._memory[model_uid]
            return None
        # Outside of what becomes the model's problem: that NATS is away says nothing about the model.
        stored = await self._reports.stored(model_uid)
        if memory.said_facts and (stored is None or stored.facts_key != memory.said_facts):
            # NATS has lost what was said, and perhaps the facts with it.
            memory.parsing, memory.parsed, memory.said_facts = None, None, ""
        # Only the controller says that a model is to go. A key that is merely missing may mean that NATS has lost its
        # storage, and the models of a whole fleet are not thrown away for that.
        desired = Desired(entry.revision, entry.value) if entry else _keeping(0, stored or NodeModelState(), model_uid)
        grace_seconds = self._remaining_grace_seconds(model_uid, desired, memory)
        if grace_seconds > 0:
            desired = _keeping(desired.revision, desired.assignment, model_uid)
        observed, planned_at = Observed(complete=False), time.monotonic()
        try:
            observed = await self._observe(model_uid, desired, memory, stored)
            planned_at = time.monotonic()
            actions = plan(desired, observed, planned_at)
            for action in actions:
                await self._apply(model_uid, desired, action, memory)
            if (
                desired.assignment.goal == GOAL_ABSENT
                and memory.setback
                and is_due(memory.setback.retry_at, planned_at)
            ):
                # What was in the way is not any more; the model may still wait for Pods, and then says that.
                memory.setback, observed = None, replace(observed, setback=None)
            if actions:
                observed = await self._observe(model_uid, desired, memory, stored)
        except Conflict:
            # What was looked at changed meanwhile: the queue has it looked at again, and nothing is said about it.
            raise
        except Exception as error:  # The work item's boundary: it ends in the model's state and a later attempt.
            self._set_back(model_uid, desired, memory, error)
            observed = replace(
                observed, setback=memory.setback, transfer=self._downloads.get(model_uid), parsing=memory.parsing
            )
        state = describe(desired, observed)
        if state.phase == NodePhase.NODE_PHASE_READY and not state.update:
            memory.setback, memory.attempts = None, 0
        if verified := self._verifier.heed(model_uid, desired.assignment, observed.root, state, stored):
            state.verification.CopyFrom(verified)
        # Also when no answer comes: it may have been stored all the same, and be lost with the facts afterwards.
        memory.said_facts = state.facts_key
        await self._say(model_uid, state)
        look_again = self._look_again_seconds(
            model_uid, state, memory, next_attempt_at(desired, memory.setback, planned_at)
        )
        return min(look_again, grace_seconds) if look_again and grace_seconds > 0 else look_again

    async def _has_anything(self, model_uid: str, memory: Memory) -> bool:
        return bool(memory.fetched or self._downloads.get(model_uid) or await self._roots.publications(model_uid))

    def _remaining_grace_seconds(self, model_uid: str, desired: Desired, memory: Memory) -> float:
        """How long a model stays that is to go because no object names it, rather than because it was deleted."""
        if not desired.assignment.unclaimed:
            memory.unclaimed_since = None
            return 0.0
        now = time.monotonic()
        if memory.unclaimed_since is None:
            memory.unclaimed_since = now
            _log.info("model_unclaimed", model=model_uid, grace_seconds=self._settings.orphan_grace_seconds)
        return max(0.0, memory.unclaimed_since + self._settings.orphan_grace_seconds - now)

    async def _observe(
        self, model_uid: str, desired: Desired, memory: Memory, stored: NodeModelState | None
    ) -> Observed:
        publications = await self._roots.publications(model_uid)
        if desired.assignment.goal == GOAL_HOLD:
            # The desired copy is looked at by itself.
            digest = desired.assignment.artifact.digest
            publications = await self._looked_at(publications, lambda each: each.artifact.digest != digest)
        if desired.assignment.goal == GOAL_ABSENT and memory.left != desired.assignment.artifact.digest:
            # What an earlier process has begun to fetch has no other name than this.
            memory.left = desired.assignment.artifact.digest
            memory.fetched |= {(root, memory.left) for root in self._roots.usable_roots()}
        # In one step with the look at the transfer: one that ends in between would be begun anew and then set back.
        self._note_failed_transfer(model_uid, desired, memory)
        observed = Observed(
            publications=publications,
            transfer=self._downloads.get(model_uid),
            setback=memory.setback,
            leftovers=tuple(sorted(memory.fetched)),
            kept=await self._keeper.kept(model_uid),
            spared=await self._spared(model_uid, desired, publications, memory),
        )
        if desired.assignment.goal == GOAL_ABSENT:
            self._roots.refuse_contested()
            return observed
        if desired.assignment.goal == GOAL_KEEP:
            return await self._observe_kept(model_uid, observed, memory, stored)
        try:
            if desired.copies and (away := await self._evictor.away(model_uid, desired.assignment)):
                return replace(observed, away=away)
            if desired.copies:
                observed = await self._observe_copy(model_uid, desired.assignment, observed, memory)
            else:
                observed = await self._observe_directory(desired.assignment, observed)
        except Conflict:
            # Another process still speaks for what lies there.
            raise
        except (ServiceError, InvalidValue) as error:
            evicted = tuple(self._evicted(model_uid, desired.assignment, publications))
            return replace(observed, obstacle=error, evicted=evicted)
        return replace(observed, parsing=self._recall_parsing(desired, observed.copy, memory, stored))

    async def _spared(
        self, model_uid: str, desired: Desired, publications: Sequence[PublishedName], memory: Memory
    ) -> Spared | None:
        """Why the model's name stays although the node is not meant to hold it any more; None when it goes."""
        assignment = desired.assignment
        memory.spared_until = None
        if assignment.goal != GOAL_ABSENT or not assignment.HasField("unselected_since"):
            memory.unselected = None
            return None
        told, now = assignment.unselected_since.ToMilliseconds(), time.monotonic()
        if memory.unselected is None or memory.unselected[0] != told:
            memory.unselected = told, now - max(0.0, time.time() - told / 1000)
        if not publications:
            return None
        leaving = Leaving(
            for_seconds=now - memory.unselected[1],
            spared_seconds=self._settings.unselected_grace_seconds,
            grace_seconds=self._keeper.grace_seconds(model_uid),
        )
        verdict = judge(leaving)
        if verdict.fate is Fate.UNKNOWN:
            leaving = replace(leaving, use=await self._keeper.name_use(model_uid, [each.path for each in publications]))
            verdict = judge(leaving)
        if verdict.fate is Fate.GOES:
            return None
        wait = verdict.remaining_seconds
        if verdict.fate is not Fate.SPARED:
            wait = min(wait, seconds_until_question(leaving.for_seconds, asked_before=True))
        memory.spared_until = now + wait
        longest = max(leaving.spared_seconds, leaving.grace_seconds)
        return Spared(verdict.fate, told / 1000 + longest, leaving.use)

    def _recall_parsing(
        self, desired: Desired, copy: Copy, memory: Memory, stored: NodeModelState | None
    ) -> Parsing | None:
        """What is known of the facts; after a restart, what was said about the same artifact and spec before.

        Not of a model that may be incomplete: whether it may, the next edit can change. What the rules of another
        version have made is said until the parser was asked again, as after an upgrade.
        """
        assignment = desired.assignment
        allowed = allows_incomplete(assignment.source.parameters)
        key = (copy.identity, assignment.schema_path, allowed)
        if memory.parsed != key:
            memory.parsing, memory.parsed, memory.parse_attempts = None, key, 0
            if (
                desired.copies
                and not allowed
                and stored is not None
                and stored.phase == NodePhase.NODE_PHASE_READY
                and stored.facts_key
                and stored.artifact.digest == assignment.artifact.digest
                and stored.generation == assignment.generation
            ):
                current = self._facts.key(assignment.artifact.digest, assignment.schema_path)
                memory.parsing = Parsing(facts_key=stored.facts_key, outdated=stored.facts_key != current)
        return memory.parsing

    async def _observe_kept(
        self, model_uid: str, observed: Observed, memory: Memory, stored: NodeModelState | None
    ) -> Observed:
        published = next((each for each in observed.publications if each.intact), None)
        if published is None:
            self._roots.refuse_contested_for_now()
            return observed
        digest = published.artifact.digest
        claimant = claimant_of(model_uid, ())
        observed = replace(observed, copy=await self._roots.copy(published.root, digest, claimant))
        if memory.parsed and memory.parsed[0] == digest:
            return replace(observed, parsing=memory.parsing)
        if stored and stored.facts_key and stored.artifact.digest == digest:
            return replace(observed, parsing=Parsing(facts_key=stored.facts_key))
        return observed

    async def _observe_copy(
        self, model_uid: str, assignment: Assignment, observed: Observed, memory: Memory
    ) -> Observed:
        place = self._place(assignment)
        observed = replace(observed, root=place.root, path=place.path)
        self._make_way(model_uid, assignment, place.path)
        await self._roots.check_free(model_uid, place, self._leaving(model_uid, place.path))
        digest = assignment.artifact.digest
        leftovers = tuple(each for each in observed.leftovers if each != (place.root, digest))
        claimant = claimant_of(model_uid, assignment.trust_scopes)
        copy = await self._roots.copy(place.root, digest, claimant)
        publications = await self._looked_at(
            observed.publications, lambda each: each.artifact.digest == digest and each.root != place.root
        )
        observed = replace(observed, publications=publications)
        if not copy.damaged or not any(each.intact for each in observed.publications):
            memory.repair_at = None
        elif memory.repair_at is None:
            # What readers had is wrong: they are told before it is right again.
            memory.repair_at = time.monotonic() + _TOLD_SECONDS
        return replace(observed, leftovers=leftovers, copy=copy, repair_at=memory.repair_at)

    async def _looked_at(
        self, publications: Sequence[PublishedName], which: Callable[[PublishedName], bool]
    ) -> tuple[PublishedName, ...]:
        """Publications; of those that which is true of, it is said whether what they lead to is damaged."""

        async def look(each: PublishedName) -> PublishedName:
            return replace(each, damaged=await self._roots.is_damaged(each.root, each.artifact.digest))

        return tuple([await look(each) if each.intact and which(each) else each for each in publications])

    def makes_way_for(self, model_uid: str) -> list[str]:
        """Uids of the models with a namespace whose paths a model in none names: they are to leave them."""
        entry = self._assignments.entries.get(node_key(self._settings.node_name, model_uid))
        if entry is None or entry.value.model.namespace or (path := self._claimed_path(entry.value)) is None:
            return []
        entries = [(split_node_key(key)[1], other.value) for key, other in self._assignments.entries.items()]
        return [
            other
            for other, assignment in entries
            if assignment.model.namespace and overlap(self._claimed_path(assignment) or "", path)
        ]

    def _make_way(self, model_uid: str, assignment: Assignment, path: str) -> None:
        """Raise Unavailable with reason PathConflict where a model in no namespace names the path of one that is in
        one, a path above it or below it.
        """
        if not assignment.model.namespace:
            return
        for key, entry in self._assignments.entries.items():
            first = entry.value.model
            if first.namespace or not first.kind or split_node_key(key)[1] == model_uid:
                continue
            claimed = self._claimed_path(entry.value)
            if claimed is not None and overlap(claimed, path):
                raise Unavailable(
                    Reason.PATH_CONFLICT,
                    f"{shown_ref(first)} uses {claimed}, and a model that is in no namespace comes first: give this "
                    "model another storage.path, or ask an administrator to give the other one another",
                )

    def _claimed_path(self, assignment: Assignment) -> str | None:
        """The path that a model is to have on this node, also if it is only read there; None if there is none."""
        try:
            if assignment.goal != GOAL_HOLD:
                return None
            if assignment.artifact.digest:
                return self._place(assignment).path
            return self._roots.place(_local_path(assignment)).path
        except (InvalidValue, Invalid):
            return None

    def _evicted(self, model_uid: str, assignment: Assignment, publications: Sequence[PublishedName]) -> list[str]:
        """Roots in which a model stands where others belong."""
        evicted = []
        for publication in publications:
            try:
                self._make_way(model_uid, assignment, publication.path)
            except Unavailable:
                evicted.append(publication.root)
                continue
            if is_foreign(self._roots.place(publication.path), _tenant(assignment)):
                evicted.append(publication.root)
        return evicted

    def _leaving(self, model_uid: str, path: str) -> Callable[[str], bool]:
        """Whether a model, by its uid, is not meant to stand at a path, whether or not it still does.

        Never one without an assignment: nobody has said that it is to go. A model in no namespace comes before those in
        one, and at its own default path before all others.
        """
        entries, node = self._assignments.entries, self._settings.node_name
        own = entries.get(node_key(node, model_uid))
        comes_first = own is not None and bool(own.value.model.kind) and not own.value.model.namespace

        def leaves(uid: str) -> bool:
            entry = entries.get(node_key(node, uid))
            if entry is None:
                return False
            return (comes_first and bool(entry.value.model.namespace)) or not self._is_meant_for(path, entry.value)

        return leaves

    def _is_meant_for(self, path: str, assignment: Assignment) -> bool:
        if assignment.goal == GOAL_KEEP:
            return True
        if assignment.goal == GOAL_ABSENT or not assignment.artifact.digest:
            return False
        try:
            return self._place(assignment).path == path
        except InvalidValue:
            # It cannot be brought about, so the model stays where it is, unless that is another's own.
            return not is_foreign(self._roots.place(path), _tenant(assignment))

    def _place(self, assignment: Assignment) -> Place:
        """Where a model is to stand. Raises InvalidValue with reason InvalidPath where it may not."""
        place = self._roots.place(assignment.path or self._default_path(assignment))
        check_owner(place, _tenant(assignment))
        return place

    async def _observe_directory(self, assignment: Assignment, observed: Observed) -> Observed:
        path = _local_path(assignment)
        return replace(observed, path=path, copy=await self._roots.local_copy(path, _tenant(assignment)))

    async def _apply(self, model_uid: str, desired: Desired, action: Action, memory: Memory) -> None:
        match action:
            case Refuse(error):
                raise error
            case StartTransfer(root, digest, damaged):
                memory.fetched.add((root, digest))
                memory.fetch_began = time.monotonic()
                self._downloads.start(_order(model_uid, desired, root, digest, damaged))
                self._trail.received(model_uid, digest, desired.revision, memory.looked_at)
            case Prioritize(priority):
                self._downloads.prioritize(model_uid, priority)
            case Publish(_, path, digest):
                with self._trail.part("fetcher.publish", model_uid, digest):
                    await self._roots.publish(model_uid, path, digest, self._leaving(model_uid, path))
                _log.info("model_published", model=model_uid, path=path, digest=digest)
            case Parse():
                with self._trail.part("fetcher.parse", model_uid, desired.assignment.artifact.digest):
                    await self._parse(desired, memory)
            case _:
                await self._remove(model_uid, action, memory)

    async def _remove(self, model_uid: str, action: Action, memory: Memory) -> None:
        match action:
            case StopTransfer(why):
                _log.info("transfer_given_up", model=model_uid, why=why)
                self._downloads.give_up(model_uid)
            case Unpublish(root):
                await self._roots.unpublish(model_uid, root)
                _log.info("model_unpublished", model=model_uid, root=root)
            case Reserve(root):
                await self._roots.reserve(model_uid, root)
                _log.info("model_reserved", model=model_uid, root=root)
            case Abandon(root, digest):
                try:
                    await self._roots.abandon(root, digest, self._claimants_of(digest))
                except ForeignLeftovers as error:
                    if (root, digest) not in memory.told:
                        memory.told.add((root, digest))
                        raise
                    # It was said. All that is the model's is gone, and nobody waits for what is not.
                    _log.warning("foreign_files_kept", model=model_uid, root=root, message=error.message)
                releases = [(at, each.digest) for at, each in await self._roots.releases() if each.uid == model_uid]
                if (root, digest) not in releases:
                    # Otherwise it is looked at again when no Pod can use it any more.
                    memory.fetched.discard((root, digest))

    async def _parse(self, desired: Desired, memory: Memory) -> None:
        assignment = desired.assignment
        directory = await self._model_directory(desired)
        try:
            digest, uid = assignment.artifact.digest, assignment.model.uid

            async def parse() -> ModelFacts:
                with self._trail.part("parser.Parse", uid, digest):
                    return await self._parser.parse(directory, assignment.schema_path)

            if digest:
                shared = await self._facts.get(digest, assignment.schema_path, parse)
                parsing = Parsing(facts_key=shared.key) if shared.key else Parsing(shared.facts)
                facts = shared.facts
            else:
                facts = await parse()
                parsing = Parsing(facts)
            if is_refused(facts.completeness, assignment.source.parameters):
                parsing = replace(parsing, refusal=defects_sentence(facts.completeness))
        except (ServiceError, InvalidValue) as error:
            problem = problem_of(error, "fetcher")
            retry_at = None
            if problem.problem_class != PROBLEM_CLASS_INVALID:
                memory.parse_attempts += 1
                retry_at = _appoint(problem, self._retry_delay_seconds(memory.parse_attempts, error))
            parsing = Parsing(problem=problem, retry_at=retry_at)
            if retry_at is not None and memory.parsing and memory.parsing.outdated:
                # Nothing was learned about the files, so what was known of them is told on.
                parsing = replace(memory.parsing, retry_at=retry_at)
            if problem.reason == REASON_INCOMPLETE and not allows_incomplete(assignment.source.parameters):
                parsing = replace(parsing, refusal=problem.message)
        else:
            memory.parse_attempts = 0
        memory.parsing = parsing
        if parsing.refusal:
            if desired.copies:
                # It has no name of the model by which it would be found when it is of no use any more.
                place = self._place(assignment)
                memory.fetched.add((place.root, assignment.artifact.digest))
            raise incomplete(parsing.refusal)

    async def _model_directory(self, desired: Desired) -> Path:
        assignment = desired.assignment
        if not desired.copies:
            return await self._roots.local_directory(_local_path(assignment), _tenant(assignment))
        place = self._place(assignment)
        return self._roots.store(place.root).artifact_path(assignment.artifact.digest)

    def _note_failed_transfer(self, model_uid: str, desired: Desired, memory: Memory) -> None:
        """Set the assignment back if its transfer has failed.

        That of an earlier assignment, or of another model with the same files, says nothing about it where it may have
        asked another source or with other credentials.
        """
        failure = self._downloads.take_failure(model_uid)
        if failure is None or desired.assignment.goal == GOAL_ABSENT:
            return
        order, has_secret = failure.order, desired.assignment.source.has_secret
        alike = (order.digest, order.source) == (desired.assignment.artifact.digest, desired.source)
        if order.revision == desired.revision or (alike and not has_secret and not order.has_secret):
            self._set_back(model_uid, desired, memory, failure.error)

    def _set_back(self, model_uid: str, desired: Desired, memory: Memory, error: Exception) -> None:
        """Remember that this assignment failed, and when it is attempted again."""
        if memory.setback is None or memory.setback.revision != desired.revision:
            memory.attempts = 0
        memory.attempts += 1
        problem = problem_of(self._with_name(error, desired.assignment.model), "fetcher")
        delay = retry_at = None
        # A deletion is attempted until it succeeds: nothing else would ever end it.
        if problem.problem_class != PROBLEM_CLASS_INVALID or desired.assignment.goal == GOAL_ABSENT:
            delay = self._retry_delay_seconds(memory.attempts, error)
            if desired.assignment.goal == GOAL_ABSENT or problem.reason in (REASON_PATH_CONFLICT, REASON_PATH_OCCUPIED):
                delay = min(delay, _PATH_RETRY_SECONDS)
            if isinstance(error, ForeignLeftovers):
                delay = max(delay, _TOLD_SECONDS)
            delay = self._roots.room.delay_seconds(
                error, memory.fetch_began, delay, self._settings.retry_initial_seconds
            )
            retry_at = _appoint(problem, delay)
        memory.setback = Setback(desired.revision, problem, retry_at)
        defect = is_defect(error)
        log = _log.error if defect else _log.warning
        log(
            "model_set_back",
            model=model_uid,
            attempt=memory.attempts,
            message=problem.message,
            retry_in=None if delay is None else round(delay, 2),
            exc_info=error if defect else None,
        )

    def _with_name(self, error: Exception, asker: ModelRef) -> Exception:
        """The error, with the name of the model that stands in the way where we know it and the asker may."""
        if not isinstance(error, PathTaken):
            return error
        entry = self._assignments.entries.get(node_key(self._settings.node_name, error.model_uid))
        known = entry is not None and entry.value.model.kind
        if not entry or not known or entry.value.model.namespace not in ("", asker.namespace):
            return error
        return PathTaken(error.model_uid, error.path, error.asked, shown_ref(entry.value.model))

    def _retry_delay_seconds(self, attempt: int, error: Exception) -> float:
        return retry_delay_seconds(
            attempt,
            self._settings.retry_initial_seconds,
            self._settings.retry_max_seconds,
            random.random(),
            error.retry_after_seconds if isinstance(error, Unavailable) else None,
        )

    def _look_again_seconds(
        self, model_uid: str, state: NodeModelState, memory: Memory, next_attempt: float | None
    ) -> float | None:
        if state.phase == NodePhase.NODE_PHASE_DELETED:
            return None
        now = time.monotonic()
        # A little off, so that a thousand models are not looked at in one moment.
        times = [now + self._settings.recheck_seconds * random.uniform(0.9, 1.1)]
        # While a transfer runs, its end is what is waited for.
        if next_attempt and self._downloads.get(model_uid) is None:
            times.append(next_attempt)
        times += [each for each in (memory.repair_at, memory.spared_until) if each and each > now]
        if state.phase == NodePhase.NODE_PHASE_READY and memory.parsing and memory.parsing.retry_at:
            times.append(memory.parsing.retry_at)
        return max(_SOONEST_SECONDS, min(times) - now)

    async def _say(self, model_uid: str, state: NodeModelState) -> None:
        if await self._reports.write(model_uid, state):
            _log.info(
                "model_observed",
                model=model_uid,
                phase=_word(state.phase),
                digest=state.artifact.digest or None,
                revision=state.assignment_revision,
            )
        self._count(model_uid, state.phase)

    def _count(self, model_uid: str, phase: NodePhase | None) -> None:
        before = self._phases.pop(model_uid, None)
        if phase is not None:
            self._phases[model_uid] = phase
        if before != phase:
            counts = Counter(self._phases.values())
            for each in (before, phase):
                if each is not None:
                    metrics.MODELS.labels(phase=_word(each)).set(counts[each])

    def _default_path(self, assignment: Assignment) -> str:
        if _tenant(assignment).kind:
            return default_path(self._settings.model_roots[0], _tenant(assignment))
        raise InvalidValue(Reason.INVALID_PATH, "a model of a kind that is not known needs a storage.path")


def _tenant(assignment: Assignment) -> Tenant:
    """The model, as places see it; without a kind if that is not known."""
    model = assignment.model
    try:
        kind = kind_numbered(model.kind).name
    except KeyError:
        kind = ""
    return Tenant(kind, model.namespace, model.name, assignment.confined)


def _keeping(revision: int, told: Assignment | NodeModelState, model_uid: str) -> Desired:
    """That what there is of a model stays as it is, in the words of what was last said about it."""
    model = told.model if told.HasField("model") else ModelRef(uid=model_uid)
    return Desired(revision, Assignment(model=model, goal=GOAL_KEEP, generation=told.generation))


def _appoint(problem: Problem, delay_seconds: float) -> float:
    """Write down for people when the next attempt is; the same by the monotonic clock, which nobody sets."""
    problem.retry_at.FromMilliseconds(int((time.time() + delay_seconds) * 1000))
    return time.monotonic() + delay_seconds


def _word(phase: NodePhase) -> str:
    return NodePhase.Name(phase).removeprefix("NODE_PHASE_").lower()


def _local_path(assignment: Assignment) -> str:
    match parse_uri(assignment.source.uri):
        case LocalUri(path):
            return path
        case VendorUri():
            # The vendor's own tools put it there; the node only looks whether they have.
            return assignment.path
        case _:
            raise Invalid(
                Reason.UNSUPPORTED_BACKEND, f"a fetcher cannot provide {assignment.source.uri} without an artifact"
            )


def _order(model_uid: str, desired: Desired, root: str, digest: str, damaged: tuple[str, ...]) -> Order:
    assignment, source = desired.assignment, desired.assignment.source
    return Order(
        root=root,
        digest=digest,
        damaged=damaged,
        model_uid=model_uid,
        revision=desired.revision,
        uri=source.uri,
        source_revision=assignment.artifact.source_revision,
        parameters=tuple(sorted(source.parameters.items())),
        has_secret=source.has_secret,
        bytes_total=assignment.artifact.bytes,
        priority=assignment.priority,
        namespace=assignment.model.namespace,
        trust_scopes=tuple(assignment.trust_scopes),
    )

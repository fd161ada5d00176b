"""How many bytes the models of a namespace may take on nodes, and which of those that wait for room get it first. Pure.

What counts are bytes on nodes: for each node the artifacts that its assignments of the namespace's models name, each
once, until the node has let go of them. The older of two models that wait comes first, unless it does not fit anyway.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from libs.artifact.sizes import shown_size
from libs.model.placement import parse_quantity
from ome.model.v1 import model_pb2

# A namespace, or * for all that are not named, and how much it may have as a quantity of Kubernetes.
BUDGET_PATTERN = r"([*]|[a-z0-9-]+)=\d+([.]\d+)?([kMGTPE]|[KMGTPE]i)?"
_EVERY = "*"


def limits_of(entries: Iterable[str]) -> dict[str, int]:
    """Bytes by namespace, from entries like team-a=2Ti; an entry that is none is passed over."""
    limits = {}
    for entry in entries:
        namespace, _, quantity = entry.partition("=")
        value = parse_quantity(quantity) if re.fullmatch(BUDGET_PATTERN, entry) else None
        if value is not None:
            limits[namespace] = int(value)
    return limits


@dataclass(frozen=True)
class Charge:
    """An artifact that a node is to hold for a model."""

    digest: str
    size_bytes: int


def charge_of(artifact: model_pb2.Artifact) -> Charge | None:
    """What an assignment with this artifact costs; None when it moves no bytes onto the node."""
    return Charge(artifact.digest, artifact.bytes) if artifact.digest else None


@dataclass(frozen=True)
class Shortage:
    """Why a model gets no further bytes: what its namespace may have, has already, and the model needs beside that."""

    namespace: str
    limit_bytes: int
    used_bytes: int
    promised_bytes: int
    needed_bytes: int
    nodes: int

    @property
    def message(self) -> str:
        """The shortage for people, and who can end it how."""
        promised = f", {shown_size(self.promised_bytes)} go to older models that wait" if self.promised_bytes else ""
        places = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        limit, used = shown_size(self.limit_bytes), shown_size(self.used_bytes)
        return (
            f"the model needs {shown_size(self.needed_bytes)} on {places}, but models of namespace {self.namespace} "
            f"may take {limit} on all nodes together, and take {used}{promised}: delete models of the namespace "
            "or have them select fewer nodes, or ask an administrator to raise namespaceBudgets of the controller's "
            "chart"
        )


@dataclass
class _Namespace:
    limit_bytes: int
    used_bytes: int = 0
    # For how many models a node holds each artifact, and how large it is as far as any of them knew: one that is known
    # from an old status may lack its size.
    holders: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    # What models wait for, by uid: their age and the bytes.
    waiting: dict[str, tuple[str, int]] = field(default_factory=dict)

    def hold(self, node: str, charge: Charge) -> None:
        """A node holds an artifact for one more model."""
        count, size = self.holders.get((node, charge.digest), (0, 0))
        larger = max(size, charge.size_bytes)
        self.holders[node, charge.digest] = count + 1, larger
        self.used_bytes += larger - size

    def let_go(self, node: str, charge: Charge) -> None:
        """A node holds an artifact for one model less."""
        count, size = self.holders.pop((node, charge.digest))
        if count > 1:
            self.holders[node, charge.digest] = count - 1, size
        else:
            self.used_bytes -= size


class Budgets:
    """What the models of each namespace with a budget hold on nodes, and which of them wait."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = limits
        self._namespaces: dict[str, _Namespace] = {}
        # By model what each node holds for it, and the model's namespace.
        self._charges: dict[str, dict[str, Charge]] = {}
        self._homes: dict[str, str] = {}

    @property
    def any(self) -> bool:
        """Whether any namespace has a budget: where none has, nothing need be counted."""
        return bool(self._limits)

    def account(self, uid: str, namespace: str, created: str) -> "Account | None":
        """The account of a model's namespace; None when it has no budget, or the model is in no namespace."""
        if self._of(namespace) is None:
            return None
        return Account(self, uid, namespace, created)

    def charge(self, uid: str, namespace: str, node: str, charge: Charge | None) -> set[str]:
        """A node holds this for a model now, or nothing; returns the models that wait and may find another answer.

        The namespace need not be known of a model that a node held something for.
        """
        budget = self._of(namespace or self._homes.get(uid, ""))
        charges = self._charges.get(uid, {})
        before = charges.get(node)
        if budget is None or before == charge:
            return set()
        if before:
            del charges[node]
            budget.let_go(node, before)
        if charge:
            charges[node] = charge
            self._charges[uid], self._homes[uid] = charges, namespace or self._homes[uid]
            budget.hold(node, charge)
        if not charges:
            self._charges.pop(uid, None)
            self._homes.pop(uid, None)
        return set(budget.waiting)

    def wait(self, uid: str, namespace: str, created: str, needed_bytes: int) -> set[str]:
        """A model waits for room for so many bytes, or for none; returns the others that wait, if that is news."""
        budget = self._of(namespace)
        before = budget.waiting.get(uid) if budget else None
        after = (created, needed_bytes) if needed_bytes else None
        if budget is None or before == after:
            return set()
        if after:
            budget.waiting[uid] = after
        else:
            del budget.waiting[uid]
        return set(budget.waiting) - {uid}

    def charged_nodes(self, uid: str) -> set[str]:
        """The nodes that hold something for a model."""
        return set(self._charges.get(uid, ()))

    def shortage(
        self, uid: str, namespace: str, created: str, artifact: model_pb2.Artifact, nodes: Iterable[str]
    ) -> Shortage | None:
        """Why nodes that lack an artifact cannot get it for a model; None when there is room, or they need no bytes.

        What nodes hold of the model and give up for this counts as free.
        """
        budget, charges = self._of(namespace), self._charges.get(uid, {})
        if budget is None or not artifact.digest:
            return None
        needed = freed = lacking = 0
        for node in nodes:
            before = charges.get(node)
            if before and before.digest == artifact.digest:
                continue
            if (node, artifact.digest) not in budget.holders:
                needed += artifact.bytes
                lacking += 1
            if before:
                count, size = budget.holders[node, before.digest]
                freed += size if count == 1 else 0
        needed -= freed
        room = budget.limit_bytes - budget.used_bytes
        if needed <= 0:
            return None
        promised = 0
        for age, other in sorted((age, other) for other, (age, _) in budget.waiting.items()):
            if (age, other) < (created, uid) and budget.waiting[other][1] <= room - promised:
                promised += budget.waiting[other][1]
        if needed <= room - promised:
            return None
        return Shortage(namespace, budget.limit_bytes, budget.used_bytes, promised, needed, lacking)

    def _of(self, namespace: str) -> _Namespace | None:
        limit = self._limits.get(namespace, self._limits.get(_EVERY)) if namespace else None
        if limit is None:
            return None
        if namespace not in self._namespaces:
            self._namespaces[namespace] = _Namespace(limit)
        return self._namespaces[namespace]


@dataclass(frozen=True)
class Account:
    """The budget of a model's namespace, as the model asks it for room."""

    budgets: Budgets
    uid: str
    namespace: str
    created: str

    def shortage(self, artifact: model_pb2.Artifact, nodes: Iterable[str]) -> Shortage | None:
        """Why nodes that lack an artifact cannot get it; None when there is room, or they need no bytes."""
        return self.budgets.shortage(self.uid, self.namespace, self.created, artifact, nodes)

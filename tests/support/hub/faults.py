"""Faults in force: which one hits a request, and how often each has fired. Must not send anything."""

import fnmatch
import threading
from collections.abc import Callable

from tests.support.hub.client import Fault
from tests.support.hub.wire import FileRange, Request, Response

_INSTEAD = ("status", "delay", "reset", "redirect", "ignore_range", "unsatisfiable")
_NEED_RANGE = ("ignore_range", "unsatisfiable", "wrong_range")


class ActiveFault:
    """A fault, how many requests it was given, and how often it took effect."""

    def __init__(self, identity: str, fault: Fault, fired: Callable[["ActiveFault"], None]) -> None:
        self.identity = identity
        self.fault = fault
        self.passed = 0
        self.taken = 0
        self.fired = 0
        self.released = threading.Event()
        self._note_fired = fired

    def fire(self) -> None:
        """Note that the fault takes effect."""
        self._note_fired(self)


class Faults:
    """Every fault that was injected, in order."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._active: list[ActiveFault] = []
        self._known: dict[str, ActiveFault] = {}

    def inject(self, fault: Fault) -> str:
        """Put a fault into force and name it."""
        with self._changed:
            identity = f"{fault.kind}-{len(self._known) + 1}"
            active = ActiveFault(identity, fault, self._note)
            self._active.append(active)
            self._known[identity] = active
        return identity

    def instead(self, port: str, request: Request) -> ActiveFault | None:
        """The fault that decides the answer before it is known."""
        # Read without the lock: the common case is that there is none, on the path that benchmarks measure.
        if not self._active:
            return None
        return self._take(port, request, lambda fault: fault.kind in _INSTEAD)

    def during(self, port: str, request: Request, response: Response) -> ActiveFault | None:
        """The fault that spoils the body of a response."""
        if not self._active or request.method != "GET" or response.status not in (200, 206):
            return None
        start = response.body.offset if isinstance(response.body, FileRange) else 0

        def applies(fault: Fault) -> bool:
            match fault.kind:
                case "cut" | "stall" | "short":
                    return fault.after_bytes < response.length
                case "corrupt":
                    return start <= fault.offset < start + response.length
                case "wrong_range":
                    return response.status == 206
                case kind:
                    return kind not in _INSTEAD

        return self._take(port, request, applies)

    def wait_fired(self, identity: str, times: int, seconds: float) -> int:
        """How often a fault has fired, at once or when it has fired so often or the time is over."""
        active = self._known[identity]
        with self._changed:
            self._changed.wait_for(lambda: active.fired >= times, seconds)
            return active.fired

    def release(self, identity: str) -> None:
        """Let what a fault has stalled go on, and end the fault."""
        self._known[identity].released.set()
        self.remove(identity)

    def remove(self, identity: str) -> None:
        """End a fault."""
        with self._changed:
            self._active = [active for active in self._active if active.identity != identity]

    def clear(self) -> None:
        """End all faults and release what they stall."""
        with self._changed:
            self._active = []
            for active in self._known.values():
                active.released.set()

    def _take(self, port: str, request: Request, applies: Callable[[Fault], bool]) -> ActiveFault | None:
        with self._changed:
            for active in self._active:
                fault = active.fault
                if (
                    fault.port in ("*", port)
                    and fault.method in ("*", request.method)
                    and fnmatch.fnmatchcase(request.path, fault.path)
                    and not (fault.kind in _NEED_RANGE and "range" not in request.headers)
                    and applies(fault)
                ):
                    if active.passed < fault.skip:
                        active.passed += 1
                    elif fault.count is None or active.taken < fault.count:
                        active.taken += 1
                        return active
        return None

    def _note(self, active: ActiveFault) -> None:
        with self._changed:
            active.fired += 1
            self._changed.notify_all()

"""An origin whose credentials are asked for again when the source refuses them in the middle of a transfer.

So a Secret that is rotated during a long download does not end it. Must not know any backend.
"""

import threading
import time
from collections.abc import Callable

import structlog

from libs.artifact.manifest import ManifestFile
from libs.chassis.errors import Unavailable
from services.fetcher.transfer.origin import Location, Origin

# What is refused to several threads at once is asked about once, also when no controller answers.
_PAUSE_SECONDS = 2.0
_log = structlog.get_logger()


class RenewedOrigin:
    """The origin that renew has given last. Several threads may ask it."""

    def __init__(self, origin: Origin, version: str, renew: Callable[[str], tuple[Origin, str] | None]) -> None:
        """renew blocks; it gets the version of the credentials that were refused, and returns an origin with other ones
        and their version, or None when they are still the same.
        """
        self.name = origin.name
        self._origin = origin
        self._version = version
        self._renew = renew
        self._lock = threading.Lock()
        self._next_renewal = 0.0

    def locate(self, file: ManifestFile, again: bool) -> Location:
        """Where to ask for a file; again asks for the credentials first. Raises what ends the transfer, such as
        SecretNotFound when there are none any more.
        """
        if not again:
            return self._origin.locate(file, again=False)
        with self._lock:
            if time.monotonic() >= self._next_renewal:
                self._ask()
                self._next_renewal = time.monotonic() + _PAUSE_SECONDS
            return self._origin.locate(file, again=True)

    def _ask(self) -> None:
        try:
            renewed = self._renew(self._version)
        except Unavailable:
            # Without a controller there is what we have; perhaps only a signature has expired.
            return
        if renewed is not None:
            self._origin, self._version = renewed
            _log.info("credentials_renewed", source=self.name)

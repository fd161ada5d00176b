"""The process from which those that list are forked: python -m services.fetcher lister, which the resolver starts.

It has imported what listings need, so that none of them waits for that, and nothing more: it opens no connection,
starts no thread and sees no secret. Standard input is a socket, on which a message with the scheme of a source and a
connection asks for a process that lists; on the connection it answers with a descriptor of that process, by which the
resolver ends it. When the socket closes, everything ends that was forked here or was left behind by what was.
"""

import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from libs.chassis.logs import configure_logs
from libs.chassis.settings import SettingsError, load_settings
from services.fetcher.listers import lister
from services.fetcher.settings import ListingSettings
from services.fetcher.sources.catalogue import Sources, prepare
from services.fetcher.sources.trust import trust_also
from services.fetcher.store.linux import adopt_orphans
from services.fetcher.transfer.tls import tls_context

_SCHEME_BYTES = 64


def main() -> NoReturn:
    """Serve the resolver at standard input until it closes it."""
    try:
        settings = load_settings(ListingSettings, os.environ)
        if settings.source_ca_file:
            trust_also(settings.source_ca_file)
        sources = Sources(settings)
    except SettingsError:
        # The resolver has read the same, and says so.
        sys.exit(2)
    configure_logs("resolver", settings.log_level, settings.log_format)
    for number in (signal.SIGTERM, signal.SIGINT):
        # The resolver hears them, and says when it is over.
        signal.signal(number, signal.SIG_IGN)
    adopt_orphans()
    # Hundreds of certificates, which each listing would read for itself.
    tls_context()
    with socket.socket(fileno=0) as control:
        _Warm(control, sources, settings).run()
    sys.exit(0)


class _Warm:
    def __init__(self, control: socket.socket, sources: Sources, settings: ListingSettings) -> None:
        self._control = control
        self._sources = sources
        self._settings = settings
        # Processes that list, by a descriptor that is readable when they have ended.
        self._listers: dict[int, int] = {}
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Fork until there is nobody to fork for."""
        self._selector.register(self._control, selectors.EVENT_READ)
        try:
            while self._turn():
                pass
        finally:
            for descriptor in self._listers:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            for descriptor in tuple(self._listers):
                self._ended(descriptor)

    def _turn(self) -> bool:
        for key, _ in self._selector.select():
            if key.fd != self._control.fileno():
                self._ended(key.fd)
                continue
            scheme, descriptors, _, _ = socket.recv_fds(self._control, _SCHEME_BYTES, 1)
            if not scheme:
                return False
            for descriptor in descriptors:
                with socket.socket(fileno=descriptor) as connection:
                    self._begin(scheme.decode("ascii", "replace"), connection)
        return True

    def _begin(self, scheme: str, connection: socket.socket) -> None:
        prepare(scheme)
        # What is here stays as it is, so that what is forked shares the memory for good.
        gc.freeze()
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            # The connection closes without an answer.
            return
        if pid == 0:
            lister.work(connection, parent, self._sources, self._settings)
        descriptor = os.pidfd_open(pid)
        self._listers[descriptor] = pid
        self._selector.register(descriptor, selectors.EVENT_READ)
        with contextlib.suppress(OSError):
            socket.send_fds(connection, [b"\0"], [descriptor])

    def _ended(self, descriptor: int) -> None:
        """Take note of the end of a process that listed, and end what it has left behind."""
        os.waitpid(self._listers.pop(descriptor), 0)
        self._selector.unregister(descriptor)
        os.close(descriptor)
        while orphans := self._orphans():
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _orphans(self) -> list[int]:
        """Processes that we have inherited: a vendor's program, or what one has started."""
        listers = set(self._listers.values())
        # This process has one thread, so these are all.
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return [pid for pid in map(int, children) if pid not in listers]

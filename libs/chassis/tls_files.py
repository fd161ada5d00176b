"""Certificate, key and authority of a gRPC connection: files of one directory, which is filled anew while we run.

Owns when they are read, whether they can be used, and what is told when they cannot. What is done with them, on the
side of a server or a client, is not decided here.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from libs.chassis.health import Health

CHECK = "tls"
# The names of a Secret of type kubernetes.io/tls, and of the authority that cert-manager adds.
CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"
# The kubelet itself takes up to a minute to replace the files of a Secret.
_LOOK_SECONDS = 1.0
_log = structlog.get_logger()


@dataclass(frozen=True)
class TlsIdentity:
    """PEM of a certificate chain, of its key, and of the authority that the other side must be certified by."""

    certificate: bytes
    key: bytes = field(repr=False)
    authority: bytes


class UnusableFileError(Exception):
    """A file cannot be used; the message names it."""


class TlsFiles:
    """What the files hold that a setting names. With an authority, the other side must show a certificate of it."""

    def __init__(self, directory: Path, setting: str, health: Health, *, with_authority: bool) -> None:
        """The health check holds once the files could be used."""
        self.with_authority = with_authority
        self.current: TlsIdentity | None = None
        self.problem = ""
        self._directory = directory
        self._setting = setting
        self._health = health
        self._usable = asyncio.Event()
        health.declare(CHECK, f"{setting}: {directory} is not read yet")

    async def usable(self) -> TlsIdentity:
        """Wait until the files could be used for the first time; what is in force then."""
        await self._usable.wait()
        assert self.current is not None
        return self.current

    def look(self) -> None:
        """Read the files again. Ones that cannot be used are told of, and the last usable ones stay in force."""
        try:
            found = self._read()
        except UnusableFileError as error:
            problem = f"{self._setting}: {error}"
            if problem != self.problem:
                _log.warning("tls_files_unusable", error=problem)
            self.problem = problem
            if self.current is None:
                self._health.fail(CHECK, problem)
            return
        self.problem = ""
        if found != self.current:
            _log.info("tls_files_read", directory=str(self._directory))
            self.current = found
            self._health.ok(CHECK)
            self._usable.set()

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Look once, and then again and again until the block ends."""
        self.look()
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.look()

    def _read(self) -> TlsIdentity:
        found = self._contents()
        if found == self.current:
            # OpenSSL takes milliseconds to say the same again, and every process asks each second.
            return found
        try:
            # Without a password OpenSSL would ask the terminal for that of an encrypted key.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                self._directory / CERTIFICATE, self._directory / KEY, password=""
            )
        except (OSError, ValueError) as error:
            raise UnusableFileError(
                f"{self._directory / CERTIFICATE} and {KEY} are no PEM of a certificate and its key: {error}"
            ) from error
        if self.with_authority:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=found.authority.decode("ascii"))
            except (OSError, ValueError) as error:
                raise UnusableFileError(f"{self._directory / AUTHORITY} is no PEM of certificates: {error}") from error
        if self._contents() != found:
            raise UnusableFileError(f"{self._directory} is being replaced")
        return found

    def _contents(self) -> TlsIdentity:
        return TlsIdentity(
            certificate=self._content(CERTIFICATE),
            key=self._content(KEY),
            authority=self._content(AUTHORITY) if self.with_authority else b"",
        )

    def _content(self, name: str) -> bytes:
        try:
            return (self._directory / name).read_bytes()
        except OSError as error:
            raise UnusableFileError(f"{self._directory / name} cannot be read: {error.strerror}") from error


def tls_files(
    directory: Path, setting: str, health: Health, plaintext: bool, *, with_authority: bool
) -> TlsFiles | None:
    """The files for a connection; None when its settings ask for plain text in so many words, and only then."""
    return None if plaintext else TlsFiles(directory, setting, health, with_authority=with_authority)

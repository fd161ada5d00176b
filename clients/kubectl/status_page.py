"""Asks OME's status service over HTTPS, by a token of its own audience.

Owns the connection, and decides who is trusted on it.
"""

import http.client
import json
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from clients.kubectl.apiserver import Object, Refused

# A plan has a source listed.
_SECONDS = 45.0


@dataclass(frozen=True)
class StatusPage:
    """The page, by an address such as https://localhost:8443, whatever leads there.

    With authority, PEM, the page is known by it and by its own name; without, as any site is.
    """

    address: str
    token: str
    authority: str = ""
    name: str = ""

    def plan(self, manifest: Object) -> Object:
        """What would come of a manifest. Raises Refused."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection = self._connection()
        try:
            connection.request("POST", "/plan", json.dumps(manifest), headers)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise Refused(f"OME cannot be asked at {self.address}: {error}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise Refused(text.strip() or f"OME answers {answer.status}")
        found: Object = json.loads(text)
        return found

    def _connection(self) -> http.client.HTTPSConnection:
        parts = urlsplit(self.address)
        if parts.scheme != "https" or not parts.hostname:
            raise Refused(f"{self.address} is no address of OME's page: write one such as https://localhost:8443")
        context = ssl.create_default_context(cadata=self.authority or None)
        return _Named(parts.hostname, parts.port or 443, self.name or parts.hostname, context)


class _Named(http.client.HTTPSConnection):
    """A connection to a server that is known by another name than its address."""

    def __init__(self, host: str, port: int, name: str, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=_SECONDS, context=context)
        self._name = name
        self._tls = context

    def connect(self) -> None:
        """Open it, and see who is at the other end."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)

"""Where StatusService is, how it is known, and how the caller is known to it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

# The certificate names the Service, whatever address leads to it.
SERVICE_NAME = "ome-status.ome.svc"
# How long a plan is waited for, at least: a source may be slow.
PLAN_SECONDS = 40.0


@dataclass(frozen=True)
class Connection:
    """Everything that a channel needs.

    token is read again for each call: the kubelet renews the file of a projected volume. Without ca_file the
    certificate authorities of gRPC are trusted. plaintext is for a service behind a mesh.
    """

    address: str
    token: Callable[[], str]
    ca_file: Path | None = None
    server_name: str = SERVICE_NAME
    plaintext: bool = False
    timeout_seconds: float = 20.0

    def credentials(self) -> grpc.ChannelCredentials:
        """How the service is known."""
        return grpc.ssl_channel_credentials(self.ca_file.read_bytes() if self.ca_file else None)

    def options(self) -> list[tuple[str, Any]]:
        """Options of the channel."""
        return [("grpc.ssl_target_name_override", self.server_name), ("grpc.keepalive_time_ms", 60_000)]

    def metadata(self) -> list[tuple[str, str]]:
        """What each call shows."""
        token = self.token()
        return [("authorization", f"Bearer {token}")] if token else []


def connection(
    address: str,
    token: str | Callable[[], str] = "",
    token_file: str | Path | None = None,
    ca_file: str | Path | None = None,
    server_name: str = SERVICE_NAME,
    plaintext: bool = False,
    timeout_seconds: float = 20.0,
) -> Connection:
    """A connection from what people write. Raises ValueError when two tokens are given."""
    if token and token_file:
        raise ValueError("give a token or a token_file, not both")
    if token_file:
        path = Path(token_file)
        source: Callable[[], str] = lambda: path.read_text().strip()  # noqa: E731 (one of three ways to get it)
    elif callable(token):
        source = token
    else:
        fixed = token
        source = lambda: fixed  # noqa: E731
    return Connection(address, source, Path(ca_file) if ca_file else None, server_name, plaintext, timeout_seconds)

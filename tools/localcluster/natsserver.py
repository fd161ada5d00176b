"""How nats-server is configured: JetStream on disk, users with passwords for our services, nodes by auth callout.

Who may do what is not written here: services/controller/permissions.py says it for all (docs/adr/0023-gateway.md).
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nkeys

from services.controller.permissions import OME, USERS, accounts
from tools.localcluster.addresses import free_port
from tools.localcluster.certificates import KeyPair
from tools.localcluster.controlplane import listens
from tools.localcluster.daemon import Daemon
from tools.localcluster.programs import Programs


@dataclass(frozen=True)
class Identities:
    """The passwords of the users that have one, by name, and the key that signs what the nodes may do."""

    passwords: Mapping[str, str]
    issuer_seed: str
    issuer: str


def new_identities() -> Identities:
    seed = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_ACCOUNT)
    return Identities(
        passwords={user: secrets.token_urlsafe(24) for user in USERS},
        issuer_seed=seed.decode(),
        issuer=nkeys.from_seed(seed).public_key.decode(),
    )


def configuration(port: int, store: Path, identities: Identities) -> dict[str, object]:
    return {
        "listen": f"127.0.0.1:{port}",
        "server_name": "ome-local",
        "ping_interval": "15s",
        "jetstream": {"store_dir": str(store), "max_file_store": 4 * 2**30, "max_memory_store": 2**28},
        "accounts": accounts(identities.passwords),
        "system_account": "SYS",
        "authorization": {
            "timeout": 2,
            "auth_callout": {"issuer": identities.issuer, "account": OME, "auth_users": list(USERS)},
        },
    }


def tls_configuration(certificate: KeyPair) -> dict[str, object]:
    """TLS as the guide has it. A machine that runs whole clusters may take longer than the usual two seconds."""
    return {
        "cert_file": str(certificate.certificate),
        "key_file": str(certificate.key),
        "handshake_first": True,
        "timeout": 10,
    }


def guide_configuration() -> str:
    """The accounts and the callout as docs/guides/nats.md and the chart show them, which is also valid YAML."""
    passwords = {user: f"${user.upper().replace('-', '_')}_PASSWORD" for user in USERS}
    callout = {"issuer": "$ISSUER_PUBLIC_KEY", "account": OME, "auth_users": list(USERS)}
    document = {
        "accounts": accounts(passwords),
        "system_account": "SYS",
        "authorization": {"timeout": 2, "auth_callout": callout},
    }
    return "\n".join(f"{key}: {_flow(value, 0)}" for key, value in document.items())


def _flow(value: object, depth: int) -> str:
    """A value in braces and brackets, in one line where that is short."""
    if isinstance(value, dict):
        parts = [f"{key}: {_flow(each, depth + 1)}" for key, each in value.items()]
        opening, closing = "{", "}"
    elif isinstance(value, list):
        parts, opening, closing = [_flow(each, depth + 1) for each in value], "[", "]"
    else:
        # Subjects in quotation marks, as "$JS" would be a variable; variables and words without.
        return json.dumps(value) if isinstance(value, str) and re.search("[.>*]", value) else str(value)
    short = f"{opening}{', '.join(parts)}{closing}"
    if len(short) + 2 * depth < 80 and "\n" not in short:
        return short
    inner = "  " * (depth + 1)
    return f"{opening}\n" + ",\n".join(inner + part for part in parts) + f"\n{'  ' * depth}{closing}"


class NatsServer:
    def __init__(self, programs: Programs, folder: Path, identities: Identities, certificate: KeyPair) -> None:
        self._programs = programs
        self._folder = folder
        self._identities = identities
        self._certificate = certificate
        self.port = 0
        environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
        self.daemon = Daemon("nats-server", self._command, self._listens, folder=folder, environ=environ)

    @property
    def url(self) -> str:
        return f"tls://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        self.port = free_port()
        path = self._folder / "nats-server.conf"
        path.touch(mode=0o600)
        # The server's own configuration language is a superset of JSON.
        settings = configuration(self.port, self._folder / "nats", self._identities)
        settings["tls"] = tls_configuration(self._certificate)
        path.write_text(json.dumps(settings, indent=1))
        return [str(self._programs["nats-server"]), "--config", str(path)]

    async def _listens(self) -> bool:
        return await listens(self.port)


def write_chart() -> None:
    """Give the chart of NATS the accounts as they are now."""
    path = Path(__file__).parents[2] / "deploy" / "helm" / "nats" / "files" / "accounts.conf"
    head = "# Written by python -m tools.localcluster.natsserver, which is the place to change it.\n"
    path.write_text(f"{head}{guide_configuration()}\n")


if __name__ == "__main__":
    write_chart()

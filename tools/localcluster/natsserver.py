"""How nats-server is configured: JetStream on disk, two users with passwords, everyone else by auth callout.

What a node may do is not written here: the controller answers the callout with permissions
(docs/adr/0002-nats-layout.md).
"""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

import nkeys

from libs.artifact import names
from tools.localcluster.addresses import free_port
from tools.localcluster.controlplane import listens
from tools.localcluster.daemon import Daemon
from tools.localcluster.programs import Programs

ACCOUNT = "OME"


@dataclass(frozen=True)
class Identities:
    """The passwords of the two services that have one, and the key that signs what the others may do."""

    controller_password: str
    status_password: str
    issuer_seed: str
    issuer: str


def new_identities() -> Identities:
    seed = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_ACCOUNT)
    return Identities(
        controller_password=secrets.token_urlsafe(24),
        status_password=secrets.token_urlsafe(24),
        issuer_seed=seed.decode(),
        issuer=nkeys.from_seed(seed).public_key.decode(),
    )


def status_permissions() -> dict[str, object]:
    """The status service reads five buckets and progress, and writes nothing."""
    buckets = (
        names.PLANS_BUCKET,
        names.OBSERVED_BUCKET,
        names.FACTS_BUCKET,
        names.NODES_BUCKET,
        names.DESIRED_BUCKET,
    )
    publish = ["$JS.API.INFO", "$JS.FC.>"]
    for stream in (f"KV_{bucket}" for bucket in buckets):
        publish += [
            f"$JS.API.STREAM.INFO.{stream}",
            f"$JS.API.STREAM.MSG.GET.{stream}",
            f"$JS.API.DIRECT.GET.{stream}",
            f"$JS.API.DIRECT.GET.{stream}.>",
            f"$JS.API.CONSUMER.*.{stream}",
            f"$JS.API.CONSUMER.*.{stream}.>",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*",
        ]
    return {"publish": publish, "subscribe": ["_INBOX.>", "_INBOX_status.>", names.progress_subject("*", "*")]}


def configuration(port: int, store: Path, identities: Identities) -> dict[str, object]:
    users = [
        {"user": "controller", "password": identities.controller_password},
        {"user": "status", "password": identities.status_password, "permissions": status_permissions()},
    ]
    return {
        "listen": f"127.0.0.1:{port}",
        "server_name": "ome-local",
        "jetstream": {"store_dir": str(store), "max_file_store": 4 * 2**30, "max_memory_store": 2**28},
        "accounts": {ACCOUNT: {"jetstream": "enabled", "users": users}, "SYS": {"users": []}},
        "system_account": "SYS",
        "authorization": {
            "timeout": 2,
            "auth_callout": {"issuer": identities.issuer, "account": ACCOUNT, "auth_users": ["controller", "status"]},
        },
    }


class NatsServer:
    def __init__(self, programs: Programs, folder: Path, identities: Identities) -> None:
        self._programs = programs
        self._folder = folder
        self._identities = identities
        self.port = 0
        environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
        self.daemon = Daemon("nats-server", self._command, self._listens, folder=folder, environ=environ)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        self.port = free_port()
        path = self._folder / "nats-server.conf"
        path.touch(mode=0o600)
        # The server's own configuration language is a superset of JSON.
        path.write_text(json.dumps(configuration(self.port, self._folder / "nats", self._identities), indent=1))
        return [str(self._programs["nats-server"]), "--config", str(path)]

    async def _listens(self) -> bool:
        return await listens(self.port)

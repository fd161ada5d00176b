"""Makes the Secrets that our services share with NATS, once: a password for each user, and the key of the issuer.

It never changes a Secret that exists: an upgrade, a second run at the same time and an administrator's own passwords
are all left as they are.
"""

import asyncio
import base64
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import nkeys
import structlog

from libs.chassis.errors import Conflict
from libs.chassis.kube import connect_kube
from libs.chassis.logs import FORMATS, LEVELS
from libs.chassis.settings import setting
from services.controller.permissions import USERS

_PASSWORD_BYTES = 24


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What making the first Secrets needs from the environment."""

    namespace: str = setting(help="namespace of the release, in which the Secrets are made")
    service_account_dir: Path = setting(
        Path("/var/run/secrets/kubernetes.io/serviceaccount"), help="directory with token and ca.crt"
    )
    log_level: str = setting("info", help="least severe level to log", choices=LEVELS)
    log_format: str = setting("json", help="form of log lines", choices=FORMATS)


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Make each Secret that does not exist. `stop` is not waited for: this ends by itself."""
    log = structlog.get_logger()
    async with connect_kube(settings.service_account_dir, os.environ) as kube:
        for name, data in new_secrets().items():
            body = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "ome"}},
                "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
            }
            try:
                await kube.request("POST", f"/api/v1/namespaces/{settings.namespace}/secrets", body)
            except Conflict:
                log.info("secret_exists", secret=name)
            else:
                log.info("secret_made", secret=name)


def new_secrets() -> dict[str, dict[str, str]]:
    """The Secrets by name, with fresh content.

    Passwords begin with a letter: NATS takes what looks like a number in an environment variable for one. `public` of
    the issuer is what the server is to know, `seed` what the gateway signs with.
    """
    seed = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_ACCOUNT)
    passwords = {f"ome-nats-{user}": {"password": f"p{secrets.token_hex(_PASSWORD_BYTES)}"} for user in USERS}
    issuer = {"seed": seed.decode(), "public": nkeys.from_seed(seed).public_key.decode()}
    return passwords | {"ome-nats-issuer": issuer}

"""The resolver: has sources listed for the whole fleet. The fetcher's code and image, without a node and its disks.

It alone writes what sources hold, so it runs where only the operator's own Pods run. It reads nothing that a source
says: processes of its own do, each for one listing.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from libs.artifact.names import FOREIGN_API
from libs.chassis.health import Health, serve_http
from libs.chassis.nats_client import connect_nats
from libs.chassis.settings import setting
from libs.chassis.tasks import run_until
from libs.chassis.tls_files import tls_files
from services.fetcher.fleet.askings import Askings
from services.fetcher.fleet.credentials import ListingCredentials
from services.fetcher.fleet.listing import ListingLoop
from services.fetcher.fleet.manifests import ManifestStore
from services.fetcher.fleet.trials import TrialServer
from services.fetcher.listers.listers import Listers
from services.fetcher.model.parser_client import connect_parser
from services.fetcher.settings import ListingSettings
from services.fetcher.sources.catalogue import Sources
from services.fetcher.sources.trust import trust_also


@dataclass(frozen=True, kw_only=True)
class Settings(ListingSettings):
    """What a resolver must be told."""

    nats_url: str = setting(help="Address of nats-server, such as nats://nats.ome.svc:4222.")
    nats_user: str = setting("resolvers", help="User name at nats-server.")
    nats_password_file: Path = setting(help="File with the password at nats-server.")
    nats_ca_file: Path | None = setting(None, help="Certificate authority of nats-server, when it speaks TLS.")
    parser_address: str = setting("", help="host:port of the parser's gRPC service. If empty, plans tell no facts.")
    parser_tls_dir: Path = setting(
        Path("/var/run/secrets/parser-tls"),
        help="Directory with tls.crt and tls.key for the parser, and ca.crt by which the parser is known.",
    )
    parser_plaintext: bool = setting(
        False, help="true calls the parser without TLS: whoever is on the network reads along, or answers instead."
    )
    pool: str = setting("default", help="Pool of resolvers that can list the same sources.")
    parallel_listings: int = setting(4, minimum=1, help="Sources that are listed at the same time.")
    listen_host: str = setting("127.0.0.1", help="Address to serve health and metrics on; :: for all.")
    http_port: int = setting(8080, minimum=0, help="Port of /healthz, /readyz and /metrics.")


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """List until stop is set. A listing that is under way then is made by another resolver."""
    if settings.source_ca_file:
        trust_also(settings.source_ca_file)
    sources = Sources(settings)
    health = Health()
    loops: list[ListingLoop] = []

    def pull_again() -> None:
        for loop in loops:
            loop.pull_again()

    async with AsyncExitStack() as stack:
        stack.enter_context(sources)
        # Before there is a connection that a process could inherit.
        listers = stack.enter_context(Listers(settings, settings.parallel_listings))
        parse = None
        if settings.parser_address:
            plaintext = settings.parser_plaintext
            tls = tls_files(settings.parser_tls_dir, "OME_PARSER_TLS_DIR", health, plaintext, with_authority=True)
            parse = (await stack.enter_async_context(connect_parser(settings.parser_address, tls))).parse_files
        await stack.enter_async_context(serve_http(health, settings.listen_host, settings.http_port))
        client = await stack.enter_async_context(
            connect_nats(
                settings.nats_url,
                health,
                "ome-resolver",
                user=settings.nats_user,
                password_file=settings.nats_password_file,
                ca_file=settings.nats_ca_file,
                inbox_prefix="_INBOX_resolver",
                on_reconnect=pull_again,
            )
        )
        js = client.jetstream(prefix=FOREIGN_API)
        credentials, manifests, askings = ListingCredentials(client), ManifestStore(js), Askings(client)
        parallel = settings.parallel_listings
        loops.append(ListingLoop(js, settings.pool, parallel, sources, listers, credentials, manifests, askings))
        trials = TrialServer(client, settings.pool, sources, listers, loops[0], parse)
        await run_until(stop, loops[0].run(), trials.run())

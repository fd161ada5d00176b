"""The parser: stateless facts from metadata, over gRPC."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial

from libs.chassis.grpc_server import serve_grpc
from libs.chassis.health import Health, serve_http
from libs.chassis.tls_files import tls_files
from ome.parser.v1 import parser_pb2
from ome.parser.v1.parser_pb2_grpc import add_ParserServiceServicer_to_server
from services.parser import catalogue
from services.parser.servicer import Servicer
from services.parser.settings import Settings

_SERVICE = parser_pb2.DESCRIPTOR.services_by_name["ParserService"].full_name
# Parsing is pure Python: more threads would only take turns.
_THREADS = 2
# A chunk holds at most 1 MiB of a file, and a long listing of files comes one by one.
_OPTIONS = (("grpc.max_receive_message_length", 2 << 20),)


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until stop is set."""
    catalogue.load()
    async with AsyncExitStack() as stack:
        health = Health()
        executor = stack.enter_context(ThreadPoolExecutor(_THREADS, "parse"))
        await stack.enter_async_context(serve_http(health, settings.listen_host, settings.http_port))
        add = partial(add_ParserServiceServicer_to_server, Servicer(executor))
        plaintext = settings.grpc_plaintext
        tls = tls_files(settings.grpc_tls_dir, "OME_GRPC_TLS_DIR", health, plaintext, with_authority=True)
        await stack.enter_async_context(
            serve_grpc(settings.listen_host, settings.grpc_port, {_SERVICE: add}, health, tls, options=_OPTIONS)
        )
        await stop.wait()

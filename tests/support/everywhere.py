"""A process in a network of its own that listens on all addresses, and asks itself at each of the loopback's.

    python -m tests.support.everywhere

It prints the addresses of the HTTP port and of the gRPC port that answered, as JSON. Nobody outside reaches the ports.
"""

import asyncio
import ctypes
import fcntl
import json
import os
import socket
import struct

import aiohttp
import grpc

from libs.chassis.grpc_server import serve_grpc
from libs.chassis.health import Health, serve_http

# <linux/sched.h>, <linux/sockios.h> and <linux/if.h>.
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_HTTP, _GRPC = 8080, 9090
_libc = ctypes.CDLL(None, use_errno=True)


def _leave_network() -> None:
    """Have a loopback interface and nothing else."""
    if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "this machine allows no network of one's own")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


async def _answering() -> list[str]:
    found = []
    async with serve_http(Health(), "::", _HTTP), serve_grpc("::", _GRPC, {}, Health(), None):
        async with aiohttp.ClientSession() as session:
            for host in ("127.0.0.1", "[::1]"):
                async with session.get(f"http://{host}:{_HTTP}/healthz") as answer:
                    answer.raise_for_status()
                found.append(f"{host}:{_HTTP}")
        for host in ("127.0.0.1", "[::1]"):
            async with grpc.aio.insecure_channel(f"{host}:{_GRPC}") as channel:
                await channel.channel_ready()
            found.append(f"{host}:{_GRPC}")
    return found


if __name__ == "__main__":
    os.environ["GRPC_VERBOSITY"] = "NONE"
    _leave_network()
    print(json.dumps(asyncio.run(_answering())))

"""A hub that a tenant runs: what it answers about a repository depends on the repository's name."""

import asyncio
import gzip
import json
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit

COMMIT = "c" * 40
PAGE_FILES = 1000
# Of such a name; the manifest of a thousand files has a quarter of a megabyte.
MANY_NAME = 200
_CHUNK_BYTES = 1 << 20
_TRICKLE_SECONDS = 0.1


class HostileHub:
    """Repositories: org/good, org/slow-… (a byte now and then), org/bomb (gzip), org/endless (pages without
    end), org/many-… (files of its own, with long names)."""

    def __init__(self) -> None:
        self.url = ""
        # Connections that are open now, by repository, and requests that were answered.
        self.open: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        # What org/bomb decodes to.
        self.bomb_bytes = 0
        self._conversations: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer on a free loopback port while the block runs."""
        async with await asyncio.start_server(self._begin, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            try:
                yield
            finally:
                for conversation in self._conversations:
                    conversation.cancel()
                await asyncio.gather(*self._conversations, return_exceptions=True)

    async def opened(self, count: int, prefix: str = "org/slow") -> None:
        """Wait until so many connections are open about repositories with such names."""
        while self.count(prefix) != count:
            await asyncio.sleep(0.02)

    def count(self, prefix: str = "org/slow") -> int:
        """Connections that are open about repositories with such names."""
        return sum(count for name, count in self.open.items() if name.startswith(prefix))

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.create_task(self._converse(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        target = urlsplit(request.split(" ")[1])
        repository = "/".join(target.path.split("/")[3:5])
        self.open[repository] += 1
        self.asked[repository] += 1
        try:
            page = int(parse_qs(target.query).get("page", ["0"])[0])
            await self._answer(writer, repository, target.path, page)
        finally:
            self.open[repository] -= 1

    async def _answer(self, writer: asyncio.StreamWriter, repository: str, path: str, page: int) -> None:
        name = repository.partition("/")[2]
        if name.startswith("slow"):
            await self._trickle(writer)
        elif name == "bomb":
            await self._explode(writer)
        elif "/tree/" not in path:
            await _say(writer, {"id": repository, "sha": COMMIT, "siblings": []})
        elif name == "endless":
            files = [_file(f"part-{page}-{number}.bin") for number in range(PAGE_FILES)]
            following = f"{self.url}{path}?recursive=true&page={page + 1}"
            await _say(writer, files, f'Link: <{following}>; rel="next"\r\n')
        elif name.startswith("many"):
            files = [_file(f"{name}-{number:04}-{'x' * MANY_NAME}.bin") for number in range(PAGE_FILES)]
            await _say(writer, [_file("config.json"), *files])
        else:
            await _say(writer, [_file("config.json"), _file("model.safetensors")])

    async def _trickle(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(_TRICKLE_SECONDS)  # A slow hub is what this is.

    async def _explode(self, writer: asyncio.StreamWriter) -> None:
        packer = zlib.compressobj(wbits=31)
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode())
        writer.write(packer.compress(b'{"id": "'))
        for _ in range(self.bomb_bytes // _CHUNK_BYTES):
            writer.write(packer.compress(b"x" * _CHUNK_BYTES))
            await writer.drain()
        writer.write(packer.compress(b'"}') + packer.flush())
        await writer.drain()


def _file(path: str) -> dict[str, object]:
    return {"type": "file", "path": path, "size": 2, "oid": "a" * 40}


async def _say(writer: asyncio.StreamWriter, document: object, headers: str = "") -> None:
    body = gzip.compress(json.dumps(document).encode(), 1)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n{headers}"
    writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
    await writer.drain()

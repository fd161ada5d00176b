"""A store that speaks as S3 does, and that a tenant runs: its listings have no end, each bucket's in its own way."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

PAGE_OBJECTS = 1000
_PADDING_BYTES = 1 << 20


class HostileStore:
    """Buckets: same (each page lists the same names), folder (nothing but the folder itself), wide (a name a page, and
    a megabyte around it)."""

    def __init__(self) -> None:
        self.url = ""
        # Pages that were asked for, by bucket.
        self.asked: Counter[str] = Counter()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer on a free loopback port while the block runs."""
        application = web.Application()
        application.router.add_get("/{bucket}", self._list)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield
        finally:
            await runner.cleanup()

    async def _list(self, request: web.Request) -> web.Response:
        bucket = request.match_info["bucket"]
        page = self.asked[bucket]
        self.asked[bucket] += 1
        padding = ""
        match bucket:
            case "same":
                keys = [f"models/part-{number}.bin" for number in range(PAGE_OBJECTS)]
            case "folder":
                keys = ["models"] * PAGE_OBJECTS
            case _:
                keys, padding = [f"models/part-{page}.bin"], f"<!--{'x' * _PADDING_BYTES}-->"
        contents = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
            f'<ETag>"{"a" * 32}"</ETag><Size>2</Size></Contents>'
            for key in keys
        )
        text = (
            f"<ListBucketResult><IsTruncated>true</IsTruncated>{padding}{contents}"
            f"<NextContinuationToken>{page + 1}</NextContinuationToken></ListBucketResult>"
        )
        return web.Response(text=text, content_type="application/xml")

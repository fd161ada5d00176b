"""The parser as it runs: a process that serves ParserService on loopback."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from ome.parser.v1.parser_pb2 import COUNT_SOURCE_HEADERS, FileChunk, ModelFacts, ParseOptions, ParseRequest
from ome.parser.v1.parser_pb2_grpc import ParserServiceStub
from tests.support.mounted_secret import usual_sides
from tests.support.safetensors_files import json_file, weights_file
from tools.localcluster.addresses import free_port

File = tuple[str, int, bytes]
CONFIG = json_file(
    "config.json", {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16"}
)
WEIGHTS = weights_file("model.safetensors", {"a.weight": ("BF16", (3, 5))})


@asynccontextmanager
async def starting_parser(tls_directory: Path) -> AsyncIterator[tuple[str, str]]:
    """A parser that need not be ready; yields its gRPC address and its HTTP address."""
    grpc_port, http_port = free_port(), free_port()
    environment = {
        "OME_LISTEN_HOST": "127.0.0.1",
        "OME_GRPC_PORT": str(grpc_port),
        "OME_GRPC_TLS_DIR": str(tls_directory),
        "OME_HTTP_PORT": str(http_port),
        "PYTHONPATH": ":".join(path for path in sys.path if path),
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.parser", env=environment)
    try:
        yield f"127.0.0.1:{grpc_port}", f"http://127.0.0.1:{http_port}"
    finally:
        process.terminate()
        async with asyncio.timeout(20):
            assert await process.wait() == 0


@asynccontextmanager
async def parser_process() -> AsyncIterator[tuple[str, str]]:
    """A parser that answers."""
    async with starting_parser(usual_sides().server.folder) as (address, http):
        async with channel_to(address) as channel, asyncio.timeout(20):
            await channel.channel_ready()
        yield address, http


def channel_to(address: str) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(address, usual_sides().channel_credentials())


async def parse(
    address: str, files: Iterable[File], options: ParseOptions | None = None, chunk: int = 1 << 20
) -> ModelFacts:
    async def requests() -> AsyncIterator[ParseRequest]:
        if options is not None:
            yield ParseRequest(options=options)
        for path, size, data in files:
            for start in range(0, max(len(data), 1), chunk):
                part = data[start : start + chunk]
                yield ParseRequest(file=FileChunk(path=path, size_bytes=size, data=part))

    async with channel_to(address) as channel:
        response = await ParserServiceStub(channel).Parse(requests(), timeout=20, wait_for_ready=True)
    facts: ModelFacts = response.facts
    return facts


async def refusal(
    address: str, files: Iterable[File], options: ParseOptions | None = None
) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await parse(address, files, options)
    status = rpc_status.from_call(cast(grpc.Call, refused.value))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "ome.io"
    return refused.value.code(), info.reason


async def test_the_service_answers_with_facts_reasons_and_health() -> None:
    async with parser_process() as (address, http):
        tokenizer = ("tokenizer.json", 9, b"")
        facts = await parse(address, [CONFIG, WEIGHTS, tokenizer])
        assert facts.model_type == "llama"
        assert facts.parameters.count == 15
        assert facts.parameters.source == COUNT_SOURCE_HEADERS
        # The answer does not depend on how files are cut, nor on their order.
        assert await parse(address, [tokenizer, WEIGHTS, CONFIG], ParseOptions(), chunk=7) == facts
        other = json_file("conf/other.json", {"model_type": "mistral"})
        assert (
            await parse(address, [CONFIG, other], ParseOptions(schema_path="conf/other.json"))
        ).model_type == "mistral"

        invalid, exhausted = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await refusal(address, []) == (invalid, "NoConfig")
        assert await refusal(address, [WEIGHTS]) == (invalid, "NoConfig")
        assert await refusal(address, [("config.json", 1, b"{")]) == (invalid, "ParseFailed")
        assert await refusal(address, [("config.json", 0, b"")]) == (invalid, "Incomplete")
        assert await refusal(address, [("../config.json", 2, b"{}")]) == (invalid, "InvalidListing")
        assert await refusal(address, [("config.json", 7 << 20, b" " * (7 << 20))]) == (exhausted, "ParseFailed")

        async with aiohttp.ClientSession() as session:
            async with session.get(f"{http}/readyz") as response:
                assert response.status == 200
            async with session.get(f"{http}/metrics") as response:
                metrics = await response.text()
        assert 'ome_parser_parses_total{result="NoConfig"} 2.0' in metrics
        async with channel_to(address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            answer = await health.Check(health_pb2.HealthCheckRequest(service="ome.parser.v1.ParserService"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def readiness(http: str) -> tuple[int, str]:
    """What /readyz says, once the process listens."""
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{http}/readyz") as response:
                    return response.status, await response.text()
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)


async def test_a_parser_without_its_certificate_is_not_ready_and_says_why_until_it_has_one(tmp_path: Path) -> None:
    directory = tmp_path / "tls"
    async with starting_parser(directory) as (address, http):
        status, why = await readiness(http)
        assert status == 503
        assert f"OME_GRPC_TLS_DIR: {directory / 'tls.crt'} cannot be read" in why

        directory.symlink_to(usual_sides().server.folder)
        assert (await parse(address, [CONFIG])).model_type == "llama"
        assert (await readiness(http))[0] == 200


async def test_a_parser_ends_in_order_while_it_waits_for_its_certificate(tmp_path: Path) -> None:
    async with starting_parser(tmp_path) as (_, http):
        assert (await readiness(http))[0] == 503


async def test_slow_and_broken_clients_do_not_stop_others() -> None:
    async with parser_process() as (address, _):

        async def stalled() -> AsyncIterator[ParseRequest]:
            yield ParseRequest(file=FileChunk(path="config.json", size_bytes=CONFIG[1], data=CONFIG[2][:5]))
            await asyncio.Event().wait()

        async with channel_to(address) as channel:
            stub = ParserServiceStub(channel)
            waiting = [stub.Parse(stalled(), timeout=30) for _ in range(20)]
            facts = await asyncio.gather(*(parse(address, [CONFIG]) for _ in range(20)))
            assert {fact.model_type for fact in facts} == {"llama"}
            for call in waiting:
                call.cancel()


async def test_the_command_line_prints_the_same_facts(tmp_path: Path) -> None:
    for path, size, data in (CONFIG, WEIGHTS):
        (tmp_path / path).write_bytes(data)
        os.truncate(tmp_path / path, size)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.parser", "inspect", str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    # The configuration describes another network than the headers: what the files hold is told, and not called proven.
    assert json.loads(printed)["parameters"] == {
        "count": "15",
        "source": "COUNT_SOURCE_HEADERS",
        "minimum": "15",
        "maximum": "15",
    }

"""What the fetcher makes of a parser that refuses: the reason, and how long to wait, come through as they were said."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs.artifact.model_directory import ModelFile
from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid, ServiceError, Unavailable
from libs.chassis.grpc_server import serve_grpc
from libs.chassis.health import Health
from ome.parser.v1.parser_pb2 import ParseRequest, ParseResponse
from ome.parser.v1.parser_pb2_grpc import ParserServiceServicer, add_ParserServiceServicer_to_server
from services.fetcher.model.parser_client import connect_parser


class Refusing(ParserServiceServicer):
    """A parser that always raises one error."""

    def __init__(self, error: ServiceError) -> None:
        self._error = error

    async def Parse(self, requests: AsyncIterator[ParseRequest], context: Any) -> ParseResponse:
        raise self._error


async def no_files(directory: Path, schema_path: str) -> list[ModelFile]:
    return []


async def answer_to(error: ServiceError) -> ServiceError:
    """The error that the client raises when the parser raises one."""
    service = {
        "ome.parser.v1.ParserService": lambda server: add_ParserServiceServicer_to_server(Refusing(error), server)
    }
    async with (
        serve_grpc("127.0.0.1", 0, service, Health(), tls=None) as port,
        connect_parser(f"127.0.0.1:{port}", None, no_files) as parser,
    ):
        with pytest.raises(ServiceError) as raised:
            await parser.parse(Path("/"), "")
        return raised.value


async def test_an_overloaded_parser_says_so_and_when_to_come_back() -> None:
    answer = await answer_to(Unavailable(Reason.OVERLOADED, "too many directories at once", retry_after_seconds=1.5))
    assert isinstance(answer, Unavailable)
    assert (answer.reason, answer.retry_after_seconds) == (Reason.OVERLOADED, 1.5)


async def test_a_refusal_keeps_its_reason_and_its_sentence() -> None:
    answer = await answer_to(Invalid(Reason.NO_CONFIG, "there is neither config.json nor model_index.json"))
    assert isinstance(answer, Invalid)
    assert (answer.reason, answer.message) == (
        Reason.NO_CONFIG,
        "there is neither config.json nor model_index.json",
    )


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy", "HTTPS_PROXY"])
async def test_the_parser_is_asked_directly_whatever_proxy_there_is_for_sources(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody listens there.
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    answer = await answer_to(Invalid(Reason.NO_CONFIG, "there is neither config.json nor model_index.json"))
    assert answer.reason == Reason.NO_CONFIG

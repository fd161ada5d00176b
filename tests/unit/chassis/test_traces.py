"""Spans reach a collector as OTLP, with ids that follow from the key of their trace."""

import subprocess
import sys

from libs.chassis.traces import NoTraces, ids_of, open_traces
from tests.support.trace_collector import running_collector


def test_ids_follow_from_the_key_alone() -> None:
    assert ids_of("a") == ids_of("a")
    assert ids_of("a").trace != ids_of("b").trace
    assert ids_of("a").trace.bit_length() <= 128
    assert ids_of("a").whole.bit_length() <= 64


def test_a_share_of_traces_is_the_same_for_everybody() -> None:
    ids = [ids_of(str(number)) for number in range(1000)]
    sent = [each for each in ids if each.is_sent(0.25)]
    assert 200 < len(sent) < 300
    assert all(each.is_sent(0.5) for each in sent)
    assert all(each.is_sent(1.0) for each in ids)
    assert not any(each.is_sent(0.0) for each in ids)


async def test_parts_of_two_services_are_one_trace_with_its_whole() -> None:
    with running_collector() as collector:
        async with (
            open_traces("first", "first-0", collector.endpoint, 1.0) as first,
            open_traces("second", "second-0", collector.endpoint, 1.0) as second,
        ):
            first.part("key", "work", 10.0, 11.5, {"bytes": 7, "node": "n1"})
            second.part("key", "more", 12.0, 11.0, {}, "NotFound: it is gone")
            second.whole("key", "all", 9.0, 13.0, {})
            second.part("other", "work", 1.0, 2.0, {})
        spans = collector.spans()
    mine = {span.name: span for span in spans if span.trace == f"{ids_of('key').trace:032x}"}
    work, more, whole = mine["work"], mine["more"], mine["all"]
    assert (work.service, more.service, whole.service) == ("first", "second", "second")
    assert work.parent == more.parent == whole.identity == f"{ids_of('key').whole:016x}"
    assert whole.parent == ""
    assert (work.started, work.ended) == (10_000_000_000, 11_500_000_000)
    assert work.about == {"bytes": "7", "node": "n1"}
    assert more.failed
    assert more.ended == more.started
    assert len(spans) == 4


async def test_what_strangers_say_of_a_failure_is_one_line_and_costs_no_other_span() -> None:
    hostile = "NotFound: \ud800\x1b[2J\n" + "x" * 100_000
    with running_collector() as collector:
        async with open_traces("service", "0", collector.endpoint, 1.0) as traces:
            traces.part("one", "work", 1.0, 2.0, {}, hostile)
            traces.part("two", "work", 1.0, 2.0, {}, "NotFound: it is gone")
        said = sorted(span.why for span in collector.spans())
    assert len(said) == 2
    assert "NotFound: it is gone" in said
    assert all(each.isprintable() and len(each) <= 1024 for each in said)


async def test_only_the_share_is_sent() -> None:
    with running_collector() as collector:
        async with open_traces("service", "0", collector.endpoint, 0.5) as traces:
            for number in range(100):
                traces.part(str(number), "work", 1.0, 2.0, {})
        sent = {span.trace for span in collector.spans()}
    assert sent == {f"{ids_of(str(each)).trace:032x}" for each in range(100) if ids_of(str(each)).is_sent(0.5)}


async def test_without_a_collector_nobody_is_told() -> None:
    async with open_traces("service", "0", "", 1.0) as traces:
        assert isinstance(traces, NoTraces)
        traces.part("key", "work", 1.0, 2.0, {})
        traces.whole("key", "all", 1.0, 2.0, {})


def test_open_telemetry_is_not_loaded_where_nobody_is_told() -> None:
    program = (
        "import asyncio, sys\n"
        "import services.controller.main, services.fetcher.main, services.status.main\n"
        "from libs.chassis.traces import open_traces\n"
        "async def main():\n"
        "    async with open_traces('service', '0', '', 1.0) as traces:\n"
        "        traces.part('key', 'work', 1.0, 2.0, {})\n"
        "asyncio.run(main())\n"
        "sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))\n"
    )
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{program}"]
    assert subprocess.run(command, check=False).returncode == 0

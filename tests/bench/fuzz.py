"""Feeds the parser hostile directories for minutes: python -m tests.bench.fuzz [SECONDS]; exits 1 at a crash."""

import argparse
import contextlib
import resource
import sys
import time

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.parser.errors import ParseError
from services.parser.parsing import parse_files
from tests.support.hostile_models import File, configurations, directories
from tests.support.safetensors_files import json_file

_SECONDS = 180
_BATCH = 2000
_SLOWEST_SECONDS = 2.0
_MOST_BYTES = 200 << 20


def main(seconds: float) -> int:
    """Run batches until the time is over; a failure is shrunk and shown by Hypothesis, and ends the run."""
    tried = 0
    slowest = 0.0

    # Every batch has examples of its own; none are kept on disk.
    @settings(
        max_examples=_BATCH,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(directories(), configurations().map(lambda config: [json_file("config.json", config)])))
    def attempt(files: list[File]) -> None:
        nonlocal tried, slowest
        started = time.monotonic()
        with contextlib.suppress(ParseError):
            parse_files(files).SerializeToString()
        took = time.monotonic() - started
        slowest = max(slowest, took)
        tried += 1
        assert took < _SLOWEST_SECONDS, f"took {took:.1f} s"

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        attempt()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    print(f"{tried} directories, slowest {slowest * 1e3:.0f} ms, peak {peak >> 20} MiB: no crash")
    return 0 if peak < _MOST_BYTES else 1


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("seconds", type=float, nargs="?", default=_SECONDS, help="how long it goes on (%(default)g)")
    sys.exit(main(options.parse_args().seconds))

"""The engine's memory with many files: the manifest is what grows, and little else. See also `make bench-memory`."""

from pathlib import Path

from tests.bench.memory import measure_many

# A name, a checksum and the object that holds them take some 300 bytes, and a manifest may be there twice for a moment.
MOST_BYTES_PER_FILE = 1500
# What a process takes now and then whatever it does.
NOISE_BYTES = 3 << 20


def test_peak_memory_grows_by_little_more_than_the_manifest_with_the_number_of_files(tmp_path: Path) -> None:
    few, many = measure_many(tmp_path, 500), measure_many(tmp_path, 5_000)
    grown = {phase: many[phase] - few[phase] for phase in few}
    assert max(grown.values()) < 4_500 * MOST_BYTES_PER_FILE + NOISE_BYTES, grown

"""`make bench-memory`: peak memory of the engine and of a whole fetcher, by a model's size and by its number of files.

A model of 100 GiB takes no disk: all but its end lies in staging as a hole that the journal vouches for, and the origin
serves the rest from a sparse file. Its blocks are reserved, though, so the file system must have room for them. One in
a sparse file will do: `truncate -s 200G image; mkfs.ext4 -q image; mount -o loop image DIRECTORY`, then --directory
DIRECTORY. Hashing 100 GiB three times takes minutes.
"""

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, new_manifest
from libs.artifact.model_directory import read_model_directory
from ome.model.v1.model_pb2 import NODE_PHASE_DELETED, NODE_PHASE_READY
from services.fetcher.stop import StopFlag
from services.fetcher.store.journal import Journal
from services.fetcher.transfer.limits import Limits
from tests.support.chart_memory import charted_memory
from tests.support.fetcher_node import FetcherNode, connected_driver, nats_configuration, running_parser
from tests.support.hub import Hub
from tests.support.nats_server import NatsServer
from tests.support.origin import OriginServer
from tests.support.transfers import CLAIMANT, MODEL_UID, UrlOrigin, acquire, new_store

NODE = "node-1"
WEIGHTS = "model.safetensors"
# Comes over the network; what is before it lies there as a hole.
TAIL_BYTES = 256 << 20
_BLOCK = 1 << 20

Peaks = dict[str, int]


def main() -> None:
    """Measure and print two tables; or be the process that is measured."""
    if sys.argv[1:2] == ["client"]:
        print(json.dumps(CLIENTS[sys.argv[2]](Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]))))
        return
    options = _options()
    with tempfile.TemporaryDirectory(prefix="ome-bench-", dir=options.directory) as name:
        directory = Path(name)
        sizes = [gibibytes << 30 for gibibytes in options.gibibytes]
        _print("GiB", options.gibibytes, {"engine": [measure_large(directory, size) for size in sizes]})
        counts = options.files
        rows = {"engine": [measure_many(directory, count) for count in counts]}
        rows["fetcher"] = [asyncio.run(_fetcher(directory / str(count), count)) for count in counts]
        _print("files", counts, rows)
        most, limit = max(max(peaks.values()) for peaks in rows["fetcher"]), charted_memory("fetcher").limit
        print(f"\nmost of a fetcher {most / 1e6:.0f} MB, limit of its chart {limit / 1e6:.0f} MB")
        if most > limit:
            sys.exit("a fetcher has taken more than its chart permits")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gibibytes", type=int, nargs=2, default=[1, 100], help="two sizes of a model")
    parser.add_argument("--files", type=int, nargs=2, default=[50, 50_000], help="two numbers of files")
    parser.add_argument("--directory", default=None, help="where to write; must have room for the larger model")
    return parser.parse_args()


def measure_large(directory: Path, size: int) -> Peaks:
    """Peaks of an engine, by what it did, with a model of one file of that size."""
    root, source = directory / f"large-{size}", directory / f"source-{size}"
    with source.open("wb") as content:
        content.truncate(size)
    manifest = _large_manifest(size)
    staging = root / ".ome" / "staging" / CLAIMANT.staging(manifest.digest)
    (staging / "files").mkdir(parents=True)
    with (staging / "files" / WEIGHTS).open("wb") as content:
        content.truncate(size)
    journal = Journal(staging / "journal")
    for length, digest in _prefixes(size - TAIL_BYTES):
        journal.verified(0, length, digest)
    journal.close()
    with OriginServer() as server:
        server.add(f"/model/{WEIGHTS}", source)
        peaks = _run("large", root, f"{server.url}/model", size)
        assert server.bytes_sent == TAIL_BYTES, "the hole was believed"
    shutil.rmtree(root)
    source.unlink()
    return peaks


def _large_manifest(size: int) -> Manifest:
    # Recorded by the first who asks: hashing 100 GiB takes a minute.
    return new_manifest("bench", [ManifestFile(WEIGHTS, size, ChecksumAlgorithm.SHA256, _zeros_digest(size))])


def _zeros_digest(size: int) -> str:
    if size not in _DIGESTS:
        *_, (_, _DIGESTS[size]) = _prefixes(size)
    return _DIGESTS[size]


_DIGESTS: dict[int, str] = {}


def _prefixes(size: int) -> Iterator[tuple[int, str]]:
    """What the journal of a download of zeros holds."""
    running, zeros, step = hashlib.sha256(), bytes(_BLOCK), Limits().range_bytes
    for length in range(_BLOCK, size + 1, _BLOCK):
        running.update(zeros)
        if length % step == 0 or length == size:
            yield length, running.hexdigest()


def measure_many(directory: Path, count: int) -> Peaks:
    """Peaks of an engine, by what it did, with a model of so many small files."""
    root = directory / f"many-{count}"
    with OriginServer() as server:
        for number in range(count):
            server.add(f"/model/{_name(number)}", _content(number))
        return _run("many", root, f"{server.url}/model", count)


def _name(number: int) -> str:
    return f"part-{number % 20:02}/{number:06}.json"


def _content(number: int) -> bytes:
    return b'{"number": %d}' % number


def _run(client: str, root: Path, url: str, amount: int) -> Peaks:
    command = [sys.executable, "-m", "tests.bench.memory", "client", client, str(root), url, str(amount)]
    environment = os.environ | {"OME_BENCH_DIGEST": _zeros_digest(amount) if client == "large" else ""}
    answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return {phase: int(peak) for phase, peak in json.loads(answer).items()}


def _be_large(root: Path, url: str, size: int) -> Peaks:
    _DIGESTS[size] = os.environ["OME_BENCH_DIGEST"]
    return _use_engine(root, url, _large_manifest(size))


def _be_many(root: Path, url: str, count: int) -> Peaks:
    def listed() -> Iterator[ManifestFile]:
        for number in range(count):
            content = _content(number)
            digest = hashlib.sha256(content).hexdigest()
            yield ManifestFile(_name(number), len(content), ChecksumAlgorithm.SHA256, digest)

    return _use_engine(root, url, new_manifest("bench", listed()))


def _use_engine(root: Path, url: str, manifest: Manifest) -> Peaks:
    peaks = {"start": _peak()}
    digest, stop = manifest.digest, StopFlag()
    with new_store(root) as store:
        acquire(store, manifest, UrlOrigin("bench", url), stop)
        store.publish(MODEL_UID, "bench/model", digest)
        peaks["fetch"] = _peak()
    # What a fetcher does after a restart has no manifest at hand.
    del manifest
    with new_store(root) as store:
        assert store.check(digest) == ()
        peaks["restart"] = _peak()
        assert store.scrub(digest, stop) == ()
        peaks["scrub"] = _peak()
        list(read_model_directory(str(store.artifact_path(digest))))
        peaks["parse"] = _peak()
        store.unpublish(MODEL_UID)
        peaks["delete"] = _peak()
    return peaks


CLIENTS = {"large": _be_large, "many": _be_many}


async def _fetcher(folder: Path, count: int) -> Peaks:
    """A fetcher process lists, fetches, is restarted, scrubs and deletes a model of so many files."""
    folder.mkdir()
    server = NatsServer(folder, nats_configuration(NODE))
    await server.start()
    with Hub(real_model=False) as hub:
        hub.add_model(
            "bench/many", {_name(number): _content(number) for number in range(count)} | {"config.json": "{}"}
        )
        async with running_parser(folder) as parser, connected_driver(server, NODE) as driver:
            environ = {"HF_ENDPOINT": hub.endpoint, "OME_PARSER_ADDRESS": parser, "OME_SCRUB_INTERVAL_SECONDS": "1"}
            node = FetcherNode(folder, server.url, NODE, environ | {"OME_SCRUB_BYTES_PER_SECOND": "1e9"})
            await node.start()
            peaks = {"start": _peak(node.pid)}
            resolution = await driver.resolve("hf://bench/many", seconds=600)
            peaks["list"] = _peak(node.pid)
            revision = await driver.hold("a", "hf://bench/many", resolution.artifact, "/models/a")
            await driver.state("a", NODE_PHASE_READY, revision, seconds=900)
            peaks["fetch"] = _peak(node.pid)
            await node.kill()
            await node.start()
            revision = await driver.hold("a", "hf://bench/many", resolution.artifact, "/models/a", generation=2)
            await driver.state("a", NODE_PHASE_READY, revision, seconds=120)
            peaks["restart"] = _peak(node.pid)
            while not (await node.metrics()).get('ome_fetcher_scrubs_total{result="Ok"}'):
                await asyncio.sleep(0.1)
            peaks["scrub"] = _peak(node.pid)
            await driver.state("a", NODE_PHASE_DELETED, await driver.drop("a"), seconds=300)
            peaks["delete"] = _peak(node.pid)
            await node.stop()
    await server.stop()
    return peaks


def _peak(pid: int | None = None) -> int:
    """Most memory that a process has taken since the last look, in bytes."""
    status = Path(f"/proc/{pid or 'self'}/status").read_text()
    # proc_pid_clear_refs(5): 5 lets the peak begin anew.
    Path(f"/proc/{pid or 'self'}/clear_refs").write_text("5")
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def _print(unit: str, amounts: list[int], rows: dict[str, list[Peaks]]) -> None:
    print(
        f"\n{'peak MB':10}{'phase':10}" + "".join(f"{f'{amount} {unit}':>14}" for amount in amounts) + f"{'grown':>10}"
    )
    for process, columns in rows.items():
        for phase in columns[0]:
            peaks = [column[phase] / 1e6 for column in columns]
            figures = "".join(f"{peak:14.1f}" for peak in peaks)
            print(f"{process:10}{phase:10}{figures}{peaks[-1] - peaks[0]:+10.1f}")


if __name__ == "__main__":
    main()

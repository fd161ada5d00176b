"""`make bench-transfer`: the transfer engine against huggingface_hub, rclone and aria2c, over loopback.

Each client fetches the same files in a process of its own, in alternation, into an empty directory on disk. Ours
verifies every checksum and syncs before it returns; the others do neither, so each is followed by a sync whose time is
added to its "durable" figure. huggingface_hub and ours fetch from a local hub (resolve, redirect to a CDN port);
rclone, aria2c and ours again from a plain origin. Absolute figures drift with the machine; the ratios hold.
"""

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, new_manifest
from services.fetcher.store.linux import sync_file_system
from services.fetcher.transfer.acquire import acquire
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.origin import UrlOrigin
from services.fetcher.transfer.stop import StopFlag
from tests.support.hub import Hub
from tests.support.transfers import MODEL_UID, new_store

REPOSITORY = "bench/model"
SMALL_BYTES = 20_000
_BLOCK = 1 << 20
# What is smaller is deleted after the last run: ext4 creates files slowly where many were deleted a moment ago.
_KEPT_BYTES = 1 << 29


@dataclass(frozen=True)
class Run:
    """One client's run: its own seconds, those with a sync behind it, CPU seconds and peak memory."""

    seconds: float
    durable_seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Case:
    """What is fetched: so many files of so many bytes."""

    name: str
    files: int
    file_bytes: int

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return self.files * self.file_bytes


def main() -> None:
    """Measure the cases and print a table for each; or be one of the clients."""
    if sys.argv[1:2] == ["client"]:
        print(json.dumps(CLIENTS[sys.argv[2]](sys.argv[3], Path(sys.argv[4]))))
        return
    options = _options()
    cases = [
        Case(f"4 files of {options.mebibytes} MiB", 4, options.mebibytes << 20),
        Case(f"1 file of {options.mebibytes} MiB", 1, options.mebibytes << 20),
        Case(f"{options.files} files of {SMALL_BYTES} bytes", options.files, SMALL_BYTES),
    ]
    with tempfile.TemporaryDirectory(prefix="ome-bench-", dir=options.directory) as name:
        for case in cases:
            if options.only in case.name:
                _measure(case, Path(name), options.rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of a large file")
    parser.add_argument("--files", type=int, default=2000, help="number of small files")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each client; medians are shown")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--directory", default=None, help="where to write; a real disk")
    return parser.parse_args()


def _measure(case: Case, work: Path, rounds: int) -> None:
    source = work / "source"
    _write_files(source, case)
    runs: dict[str, list[Run]] = {}
    with Hub() as hub, _plain_origin(source) as origin:
        hub.add_model(REPOSITORY, directory=source, lfs_paths=["*.safetensors"])
        contenders = [("ours (hub)", "ours-hub", hub.endpoint), ("huggingface_hub", "huggingface", hub.endpoint)]
        contenders.append(("ours (plain)", "ours-plain", f"{origin}#{source}"))
        contenders.extend((tool, tool, origin) for tool in ("rclone", "aria2c") if shutil.which(tool))
        for number in range(rounds):
            for title, client, url in contenders:
                target = work / f"target-{number}-{client}"
                runs.setdefault(title, []).append(_run(client, url, target))
                if case.size_bytes > _KEPT_BYTES:
                    shutil.rmtree(target)
    for directory in work.iterdir():
        shutil.rmtree(directory)
    _print(case, runs)


def _run(client: str, url: str, target: Path) -> Run:
    target.mkdir()
    _settle(target)
    environment = os.environ | {
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, "-m", "tests.bench.transfer", "client", client, url, str(target)]
    answer = json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)
    started = time.perf_counter()
    _settle(target)
    synced = time.perf_counter() - started
    return Run(answer["seconds"], answer["seconds"] + synced, answer["cpu"], answer["peak"])


def _settle(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        sync_file_system(fd)
    finally:
        os.close(fd)


def _write_files(directory: Path, case: Case) -> None:
    source = random.Random(7)
    for number in range(case.files):
        suffix = "safetensors" if case.file_bytes > SMALL_BYTES else "json"
        path = directory / f"part-{number % 20:02}" / f"{number:05}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as content:
            for position in range(0, case.file_bytes, _BLOCK):
                content.write(source.randbytes(min(_BLOCK, case.file_bytes - position)))


@contextmanager
def _plain_origin(directory: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.support.origin", str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdout is None or process.stdin is None:
            raise AssertionError("both were asked for")
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


def _timed(call: Callable[[], None], children: bool = False) -> dict[str, float]:
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    before = resource.getrusage(who)
    started = time.perf_counter()
    call()
    seconds = time.perf_counter() - started
    after = resource.getrusage(who)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu": cpu, "peak": after.ru_maxrss * 1024}


def _ours_from_hub(endpoint: str, target: Path) -> dict[str, float]:
    """List as an adapter would, fetch, verify, commit, publish."""
    return _timed(lambda: _acquire(*_hub_listing(endpoint), target))


def _ours_from_plain(address: str, target: Path) -> dict[str, float]:
    url, _, source = address.partition("#")
    manifest = _listing_of(Path(source))
    return _timed(lambda: _acquire(manifest, UrlOrigin("bench", url), target))


def _acquire(manifest: Manifest, origin: UrlOrigin, target: Path) -> None:
    with new_store(target) as store:
        acquire(store, manifest, origin, StopFlag(), limits=Limits())
        store.publish(MODEL_UID, "bench/model", manifest.digest)


def _hub_listing(endpoint: str) -> tuple[Manifest, UrlOrigin]:
    url: str | None = f"{endpoint}/api/models/{REPOSITORY}/tree/main?recursive=true"
    files = []
    while url:
        with urllib.request.urlopen(url) as response:
            rows = json.load(response)
            link = response.headers.get("Link", "")
        url = link.partition("<")[2].partition(">")[0] or None
        for row in rows:
            if row["type"] != "file":
                continue
            lfs = row.get("lfs")
            algorithm = ChecksumAlgorithm.SHA256 if lfs else ChecksumAlgorithm.GIT_SHA1
            files.append(ManifestFile(row["path"], row["size"], algorithm, lfs["oid"] if lfs else row["oid"]))
    return new_manifest("main", files), UrlOrigin("bench", f"{endpoint}/{REPOSITORY}/resolve/main")


def _listing_of(directory: Path) -> Manifest:
    import hashlib

    files = []
    for path in directory.rglob("*.*"):
        with path.open("rb") as content:
            checksum = hashlib.file_digest(content, "sha256").hexdigest()
        name = str(path.relative_to(directory))
        files.append(ManifestFile(name, path.stat().st_size, ChecksumAlgorithm.SHA256, checksum))
    return new_manifest("", files)


def _huggingface(endpoint: str, target: Path) -> dict[str, float]:
    from huggingface_hub import snapshot_download

    return _timed(lambda: _discard(snapshot_download(REPOSITORY, local_dir=target, endpoint=endpoint, max_workers=8)))


def _rclone(url: str, target: Path) -> dict[str, float]:
    options = ["--transfers", "4", "--multi-thread-streams", "4", "--config", "/dev/null", "--quiet"]
    return _tool(["rclone", "copy", ":http:", str(target), "--http-url", url, *options])


def _aria2c(url: str, target: Path) -> dict[str, float]:
    paths: list[str] = []
    pending = [""]
    while pending:
        directory = pending.pop()
        with urllib.request.urlopen(f"{url}/{directory}") as response:
            names = [line.partition('"')[2].partition('"')[0] for line in response.read().decode().splitlines()]
        pending.extend(directory + name for name in names if name.endswith("/"))
        paths.extend(directory + name for name in names if not name.endswith("/"))
    listing = target / "listing"
    listing.write_text("".join(f"{url}/{path}\n out={path}\n" for path in paths))
    options = ["-x4", "-s4", "-j4", "--file-allocation=falloc", "--quiet"]
    return _tool(["aria2c", "-i", str(listing), "-d", str(target), *options])


def _tool(command: list[str]) -> dict[str, float]:
    return _timed(lambda: _discard(subprocess.run(command, check=True)), children=True)


def _discard(_: object) -> None:
    return None


CLIENTS: dict[str, Callable[[str, Path], dict[str, float]]] = {
    "ours-hub": _ours_from_hub,
    "ours-plain": _ours_from_plain,
    "huggingface": _huggingface,
    "rclone": _rclone,
    "aria2c": _aria2c,
}


def _print(case: Case, runs: dict[str, list[Run]]) -> None:
    print(f"\n{case.name} (medians of {len(next(iter(runs.values())))})")
    print(f"{'client':18}{'seconds':>9}{'durable':>9}{'MB/s':>8}{'CPU-s/GiB':>11}{'peak MB':>9}{'ours is':>9}")
    medians = {client: _median(client_runs) for client, client_runs in runs.items()}
    for client, median in medians.items():
        ours = medians["ours (hub)" if client == "huggingface_hub" else "ours (plain)"]
        ratio = f"{median.durable_seconds / ours.durable_seconds:.2f}x" if not client.startswith("ours") else ""
        print(
            f"{client:18}{median.seconds:9.2f}{median.durable_seconds:9.2f}"
            f"{case.size_bytes / 1e6 / median.durable_seconds:8.0f}"
            f"{median.cpu_seconds / (case.size_bytes / 2**30):11.2f}{median.peak_bytes / 1e6:9.0f}{ratio:>9}"
        )


def _median(runs: list[Run]) -> Run:
    return Run(
        statistics.median(run.seconds for run in runs),
        statistics.median(run.durable_seconds for run in runs),
        statistics.median(run.cpu_seconds for run in runs),
        int(statistics.median(run.peak_bytes for run in runs)),
    )


if __name__ == "__main__":
    main()

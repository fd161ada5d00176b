"""`make bench-transfer`: the transfer engine against huggingface_hub, rclone and aria2c, over loopback.

Each client fetches the same files in a process of its own, in alternation, into an empty directory on disk. Ours
verifies every checksum and syncs before it returns; the others do neither. So each is followed by a sync whose time is
added to its "durable" figure, and by what would verify its files: `sha256sum`, as a person would run it, and OpenSSL's
SHA-256, which uses the processor's instructions where coreutils may not. Both read from memory with a process per core.
The rows with either are the fair ones; those without show what verifying costs.

huggingface_hub and ours fetch from a local hub (resolve, redirect to a CDN port); rclone, aria2c and ours again from a
plain origin; all of it over plain HTTP and over TLS. The servers are processes of their own that send by sendfile(2);
the CPU time that they take of the same cores is shown. What a program takes to start is measured and left out, as it is
for the clients in Python.

Absolute figures drift with the machine; the ratios, taken round by round, hold.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, new_manifest
from services.fetcher.stop import StopFlag
from services.fetcher.store.linux import sync_file_system
from tests.support.hub import HubClient
from tests.support.transfers import MODEL_UID, UrlOrigin, acquire, new_store

REPOSITORY = "bench/model"
SMALL_BYTES = 20_000
_BLOCK = 1 << 20
# What is smaller is deleted at the end: ext4 creates files slowly where many were deleted a moment ago.
_KEPT_BYTES = 1 << 29

HUB, HUGGINGFACE, PLAIN = "ours (hub)", "huggingface_hub", "ours (plain)"


@dataclass(frozen=True)
class Run:
    """One client's run: its own seconds, with those of a sync behind it, CPU seconds (also the server's), memory.

    What verifying takes afterwards, by sha256sum and by OpenSSL, is 0 for a client that has verified.
    """

    seconds: float
    durable_seconds: float
    cpu_seconds: float
    server_seconds: float
    peak_bytes: int
    sha256sum_seconds: float = 0.0
    openssl_seconds: float = 0.0


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


@dataclass(frozen=True)
class Trust:
    """An authority's certificate, and chain and key of a server that it vouches for."""

    authority: Path
    server: tuple[str, str]


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """What it has taken of the processor so far."""
        # proc_pid_stat(5): utime and stime are fields 14 and 15; the second one is a name that may hold spaces.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure the cases and print a table for each; or be one of the clients."""
    if sys.argv[1:2] == ["hash"]:
        print(json.dumps(_timed(lambda: _hash(sys.argv[2:]))))
        return
    if sys.argv[1:2] == ["client"]:
        print(json.dumps(CLIENTS[sys.argv[2]](sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5]))))
        return
    options = _options()
    cases = [
        Case(f"4 files of {options.mebibytes} MiB", 4, options.mebibytes << 20),
        Case(f"1 file of {options.mebibytes} MiB", 1, options.mebibytes << 20),
        Case(f"{options.files} files of {SMALL_BYTES} bytes", options.files, SMALL_BYTES),
    ]
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"{len(os.sched_getaffinity(0))} cores, load average {load}")
    for program in ("rclone", "aria2c"):
        if not _program(program).exists():
            print(f"{program} is missing: there are no figures for it. `make venv` installs it.")
    goals: list[bool] = []
    with tempfile.TemporaryDirectory(prefix="ome-bench-", dir=options.directory) as name:
        trust = _issue_certificate(Path(name) / "certificates")
        for case in cases:
            for scheme, tls in (("plain HTTP", None), ("TLS", trust)):
                title = f"{case.name}, {scheme}"
                if options.only in title:
                    work = Path(name) / title
                    work.mkdir()
                    goals.extend(_print(title, case, _measure(case, work, options.rounds, tls)))
                    _clear(case, work)
    print(f"\n{sum(goals)} of {len(goals)} goals met")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of a large file")
    parser.add_argument("--files", type=int, default=2000, help="number of small files")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each client; medians are shown")
    parser.add_argument("--only", default="", help='only tables whose title contains this, as in "1 file" or "TLS"')
    parser.add_argument("--directory", default=None, help="where to write; a real disk")
    return parser.parse_args()


def _issue_certificate(directory: Path) -> Trust:
    # Imported here, so that it does not count as memory of the clients.
    from tools.localcluster.certificates import Authority

    directory.mkdir()
    authority = Authority(directory)
    pair = authority.issue_server("server", (), ("127.0.0.1",))
    return Trust(authority.certificate, (str(pair.certificate), str(pair.key)))


def _measure(case: Case, work: Path, rounds: int, tls: Trust | None) -> dict[str, list[Run]]:
    source = work / "source"
    listing = work / "listing.json"
    listing.write_text(json.dumps(_write_files(source, case)))
    runs: dict[str, list[Run]] = {}
    authority, certificate = (tls.authority, tls.server) if tls else (None, ())
    with _hub(work / "hub", certificate) as hub, _plain_origin(source, certificate) as origin:
        HubClient(hub.url, authority).add_model(REPOSITORY, directory=source, lfs_paths=["*.safetensors"])
        contenders = [(HUB, "ours-hub", hub), (HUGGINGFACE, "huggingface", hub), (PLAIN, "ours-plain", origin)]
        contenders.extend((tool, tool, origin) for tool in ("rclone", "aria2c") if _program(tool).exists())
        for number in range(rounds):
            for title, client, server in contenders:
                target = work / f"target-{number}-{client}"
                runs.setdefault(title, []).append(_run(client, server, target, listing, authority))
                _clear(case, target)
    return runs


def _clear(case: Case, directory: Path) -> None:
    if case.size_bytes > _KEPT_BYTES:
        shutil.rmtree(directory)


def _run(client: str, server: Server, target: Path, listing: Path, authority: Path | None) -> Run:
    target.mkdir()
    _settle(target)
    environment = os.environ | {
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    if authority:
        environment |= {"SSL_CERT_FILE": str(authority), "REQUESTS_CA_BUNDLE": str(authority)}
    command = [sys.executable, "-m", "tests.bench.transfer", "client", client, server.url, str(target), str(listing)]
    served = server.cpu_seconds()
    answer = json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)
    served = server.cpu_seconds() - served
    started = time.perf_counter()
    _settle(target)
    durable = answer["seconds"] + time.perf_counter() - started
    verifying = (0.0, 0.0) if client.startswith("ours") else _verify(target)
    return Run(answer["seconds"], durable, answer["cpu"], served, answer["peak"], *verifying)


def _verify(directory: Path) -> tuple[float, float]:
    """Seconds that sha256sum and OpenSSL take for all files, with a process per core; starting Python is left out."""
    names = [path for path in directory.rglob("*") if path.is_file() and ".cache" not in path.parts]
    cores = len(os.sched_getaffinity(0))
    parts = [list(map(str, part)) for number in range(cores) if (part := names[number::cores])]
    started = time.perf_counter()
    _together([["sha256sum", *part] for part in parts])
    seconds = time.perf_counter() - started
    ours = _together([[sys.executable, "-m", "tests.bench.transfer", "hash", *part] for part in parts])
    return seconds, max(float(json.loads(answer)["seconds"]) for answer in ours)


def _together(commands: Sequence[Sequence[str]]) -> list[bytes]:
    with ThreadPoolExecutor(len(commands)) as executor:
        runs = executor.map(lambda command: subprocess.run(command, check=True, stdout=subprocess.PIPE), commands)
        return [run.stdout for run in runs]


def _hash(names: Sequence[str]) -> None:
    for name in names:
        with open(name, "rb") as content:
            hashlib.file_digest(content, "sha256")


def _settle(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        sync_file_system(fd)
    finally:
        os.close(fd)


def _write_files(directory: Path, case: Case) -> list[tuple[str, int, str]]:
    """Fill the directory; return path, size and SHA-256 of each file."""
    source, rows = random.Random(7), []
    for number in range(case.files):
        suffix = "safetensors" if case.file_bytes > SMALL_BYTES else "json"
        name = f"part-{number % 20:02}/{number:05}.{suffix}"
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        checksum = hashlib.sha256()
        with path.open("wb") as content:
            for position in range(0, case.file_bytes, _BLOCK):
                block = source.randbytes(min(_BLOCK, case.file_bytes - position))
                checksum.update(block)
                content.write(block)
        rows.append((name, case.file_bytes, checksum.hexdigest()))
    return rows


@contextmanager
def _hub(state: Path, certificate: Sequence[str]) -> Iterator[Server]:
    options = ["--no-real-model", "--state-dir", str(state), *(["--tls", *certificate] if certificate else [])]
    with subprocess.Popen([sys.executable, "-m", "tests.support.hub", *options], stdout=subprocess.PIPE) as process:
        if process.stdout is None:
            raise AssertionError("it was asked for")
        try:
            yield Server(json.loads(process.stdout.readline())["endpoint"], process.pid)
        finally:
            process.terminate()


@contextmanager
def _plain_origin(directory: Path, certificate: Sequence[str]) -> Iterator[Server]:
    command = [sys.executable, "-m", "tests.support.origin", str(directory), *certificate]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdout is None or process.stdin is None:
            raise AssertionError("both were asked for")
        scheme = "https" if certificate else "http"
        yield Server(f"{scheme}://127.0.0.1:{int(process.stdout.readline())}", process.pid)
        process.stdin.close()


def _program(name: str) -> Path:
    if name == "rclone":
        return Path(sysconfig.get_path("scripts")) / name
    # The package's own command starts a Python first. Found without importing it.
    found = importlib.util.find_spec("aria2c")
    return Path(found.origin).parent / "bin" / name if found and found.origin else Path(name)


def _timed(call: Callable[[], object], children: bool = False) -> dict[str, float]:
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    before = resource.getrusage(who)
    started = time.perf_counter()
    call()
    seconds = time.perf_counter() - started
    after = resource.getrusage(who)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu": cpu, "peak": after.ru_maxrss * 1024}


def _ours_from_hub(endpoint: str, target: Path, _: Path) -> dict[str, float]:
    """List as an adapter would, fetch, verify, commit, publish."""
    return _timed(lambda: _acquire(*_hub_listing(endpoint), target))


def _ours_from_plain(url: str, target: Path, listing: Path) -> dict[str, float]:
    rows = json.loads(listing.read_text())
    files = [ManifestFile(path, size, ChecksumAlgorithm.SHA256, checksum) for path, size, checksum in rows]
    return _timed(lambda: _acquire(new_manifest("", files), UrlOrigin("bench", url), target))


def _acquire(manifest: Manifest, origin: UrlOrigin, target: Path) -> None:
    with new_store(target) as store:
        acquire(store, manifest, origin, StopFlag())
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


def _huggingface(endpoint: str, target: Path, _: Path) -> dict[str, float]:
    from huggingface_hub import snapshot_download

    return _timed(lambda: snapshot_download(REPOSITORY, local_dir=target, endpoint=endpoint, max_workers=8))


def _rclone(url: str, target: Path, _: Path) -> dict[str, float]:
    options = ["--transfers", "8", "--checkers", "8", "--multi-thread-streams", "4", "--config", "/dev/null", "--quiet"]
    return _tool("rclone", "copy", ":http:", str(target), "--http-url", url, *options, trust="--ca-cert")


def _aria2c(url: str, target: Path, listing: Path) -> dict[str, float]:
    wanted = target / "listing"
    wanted.write_text("".join(f"{url}/{path}\n out={path}\n" for path, _, _ in json.loads(listing.read_text())))
    options = ["--no-conf", "-x4", "-s4", "-j8", "--file-allocation=falloc", "--quiet"]
    return _tool("aria2c", "-i", str(wanted), "-d", str(target), *options, trust="--ca-certificate")


def _tool(program: str, *arguments: str, trust: str) -> dict[str, float]:
    path = _program(program)
    authority = os.environ.get("SSL_CERT_FILE")
    command = [str(path), *arguments, *([f"{trust}={authority}"] if authority else [])]
    start = _timed(lambda: subprocess.run([path, "--version"], check=True, stdout=subprocess.DEVNULL), children=True)
    whole = _timed(lambda: subprocess.run(command, check=True), children=True)
    return {"seconds": whole["seconds"] - start["seconds"], "cpu": whole["cpu"] - start["cpu"], "peak": whole["peak"]}


CLIENTS: dict[str, Callable[[str, Path, Path], dict[str, float]]] = {
    "ours-hub": _ours_from_hub,
    "ours-plain": _ours_from_plain,
    "huggingface": _huggingface,
    "rclone": _rclone,
    "aria2c": _aria2c,
}


def _print(title: str, case: Case, runs: Mapping[str, Sequence[Run]]) -> list[bool]:
    print(f"\n{title} (medians of {len(runs[HUB])})")
    columns = f"{'seconds':>9}{'durable':>9}{'MB/s':>7}{'CPU-s/GiB':>11}{'server':>8}{'peak MB':>9}{'ours is':>9}"
    print(f"{'client':16}{columns}")
    gibibytes = case.size_bytes / 2**30
    for client, client_runs in runs.items():
        median = _median(client_runs)
        ours = _ours_for(client)
        print(
            f"{client:16}{median.seconds:9.2f}{median.durable_seconds:9.2f}"
            f"{case.size_bytes / 1e6 / median.durable_seconds:7.0f}{median.cpu_seconds / gibibytes:11.2f}"
            f"{median.server_seconds / gibibytes:8.2f}{median.peak_bytes / 1e6:9.0f}"
            f"{f'{_speed(client_runs, runs[ours]):8.2f}x' if ours != client else ''}"
        )
        if ours != client:
            for name, verified in (("sha256sum", _with_sha256sum), ("OpenSSL", _with_openssl)):
                seconds = statistics.median(verified(run) for run in client_runs)
                speed = _speed(client_runs, runs[ours], verified)
                print(f"{f' + {name}':16}{seconds:18.2f}{case.size_bytes / 1e6 / seconds:7.0f}{'':28}{speed:8.2f}x")
    goals = _goals(case, runs)
    for text, figure, met in goals:
        print(f"  {'met   ' if met else 'MISSED'} {text}: {figure}")
    sys.stdout.flush()
    return [met for _, _, met in goals]


def _goals(case: Case, runs: Mapping[str, Sequence[Run]]) -> list[tuple[str, str, bool]]:
    """The goals for a table as text, figure, and whether it was met."""
    wanted = 3.5 if case.file_bytes > SMALL_BYTES else 3.0
    speed = _speed(runs[HUGGINGFACE], runs[HUB])
    cpu = statistics.median(
        ours.cpu_seconds / theirs.cpu_seconds for ours, theirs in zip(runs[HUB], runs[HUGGINGFACE], strict=True)
    )
    peak = max(run.peak_bytes for client in (HUB, PLAIN) for run in runs[client]) / 1e6
    goals = [(f"at least {wanted}x as fast as huggingface_hub", f"{speed:.2f}x", speed >= wanted)]
    peers = [client for client in runs if _ours_for(client) != client]
    verified = min(_speed(runs[peer], runs[_ours_for(peer)], _with_sha256sum) for peer in peers)
    goals.append(("at least 1.5x as fast as any peer followed by sha256sum", f"{verified:.2f}x", verified >= 1.5))
    unverified = min(_speed(runs[peer], runs[_ours_for(peer)]) for peer in peers)
    if case.files == 1:
        # One stream of SHA-256 goes through one core, whatever the network does.
        rate, limit = case.size_bytes / 1e6 / _median(runs[PLAIN]).durable_seconds, _sha256_rate()
        print(f"  {rate:.0f} MB/s are {rate / limit:.0%} of the {limit:.0f} MB/s that one core hashes")
    else:
        text = "at least 0.95x as fast as any peer that verifies nothing"
        goals.append((text, f"{unverified:.2f}x", unverified >= 0.95))
    goals.append(("at most 0.35x the CPU time of huggingface_hub", f"{cpu:.2f}x", cpu <= 0.35))
    goals.append(("peak memory below 100 MB", f"{peak:.0f} MB", peak < 100))
    return goals


def _ours_for(client: str) -> str:
    if client in (HUB, PLAIN):
        return client
    return HUB if client == HUGGINGFACE else PLAIN


def _durable(run: Run) -> float:
    return run.durable_seconds


def _with_sha256sum(run: Run) -> float:
    return run.durable_seconds + run.sha256sum_seconds


def _with_openssl(run: Run) -> float:
    return run.durable_seconds + run.openssl_seconds


def _speed(theirs: Sequence[Run], ours: Sequence[Run], of: Callable[[Run], float] = _durable) -> float:
    """How many times as fast ours is: the median over rounds, as both runs of a round see the same machine."""
    return statistics.median(of(their) / of(our) for their, our in zip(theirs, ours, strict=True))


def _sha256_rate() -> float:
    """Megabytes a second that one core hashes, of what lies in its cache."""
    block, checksum, started = bytes(_BLOCK), hashlib.sha256(), time.perf_counter()
    for _ in range(512):
        checksum.update(block)
    return 512 * _BLOCK / 1e6 / (time.perf_counter() - started)


def _median(runs: Sequence[Run]) -> Run:
    rows = [asdict(run) for run in runs]
    return Run(**{name: statistics.median(row[name] for row in rows) for name in rows[0]})


if __name__ == "__main__":
    main()

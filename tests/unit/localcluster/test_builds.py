import os
import threading
from pathlib import Path

import pytest

from tools.localcluster.builds import Builder, BuildFailed
from tools.localcluster.programs import PROGRAMS

PROGRAM = next(program for program in PROGRAMS if program.name == "nats-server")

# Stands where Go would: answers for its version, and "builds" what follows -o while it counts its calls.
COMPILER = """#!/bin/sh
if [ "$1" = env ]; then echo {version}; exit; fi
echo call >> {calls}
while [ "$1" != -o ]; do shift; done
{build}
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def builder(tmp_path: Path, build: str, version: str = "go1.27.1") -> Builder:
    compiler = tmp_path / "bin" / "go"
    compiler.parent.mkdir(exist_ok=True)
    compiler.write_text(COMPILER.format(calls=tmp_path / "calls", build=build, version=version))
    compiler.chmod(0o755)
    return Builder({"PATH": f"{compiler.parent}{os.pathsep}/usr/bin:/bin"})


def test_two_builds_at_once_compile_once(tmp_path: Path, cache: Path) -> None:
    slow = builder(tmp_path, 'sleep 0.2; echo program > "$2"')
    threads = [threading.Thread(target=slow.build, args=(PROGRAM, cache / "nats-server")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "calls").read_text() == "call\n"
    assert (cache / "nats-server").read_text() == "program\n"


def test_failed_build_leaves_no_program_and_says_why(tmp_path: Path, cache: Path) -> None:
    failing = builder(tmp_path, 'echo half > "$2"; echo undefined: Main; exit 1')
    with pytest.raises(BuildFailed, match="undefined: Main"):
        failing.build(PROGRAM, cache / "nats-server")
    assert not (cache / "nats-server").exists()


def test_leftovers_of_a_killed_build_are_removed_by_the_next(tmp_path: Path, cache: Path) -> None:
    cache.mkdir()
    leftover = cache / ".building-etcd-3.6.8"
    leftover.write_text("half")
    builder(tmp_path, 'echo program > "$2"').build(PROGRAM, cache / "nats-server")
    assert not leftover.exists()
    assert sorted(path.name for path in cache.iterdir()) == [".lock", "nats-server"]

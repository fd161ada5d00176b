"""Decides which binary each program is started from: the developer's own, the user's cache, or a fresh build.

It starts nothing; how a missing program is built is the business of `builds`.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

MODULES = Path(__file__).parent.parent / "cluster"


@dataclass(frozen=True)
class Program:
    """A program of the cluster: which go.mod pins it, how it is built, and which other versions of it serve as well.

    The window of minor versions is relative to the pin. build_seconds is about what the build takes on two cores in the
    order of PROGRAMS. A program without version_arguments is never taken from the PATH: it would not say what it is.
    """

    name: str
    folder: str
    module: str
    package: str
    version_arguments: tuple[str, ...]
    minors_older: int
    minors_newer: int
    build_seconds: int
    version_variables: str = ""
    tags: str = ""


@dataclass(frozen=True, order=True)
class Version:
    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> "Version | None":
        """The first x.y.z in `text`, which may be the whole output of a --version command."""
        match = re.search(r"\bv?(\d+)\.(\d+)\.(\d+)", text)
        return cls(*map(int, match.groups())) if match else None

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def kubernetes(name: str, older: int, newer: int, build_seconds: int) -> Program:
    """A command of Kubernetes, which may be so many minors older or newer than the pinned one."""
    component = "k8s.io/component-base/version"
    return Program(
        name=name,
        folder="kubernetes",
        module="k8s.io/kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        version_arguments=("version", "--client") if name == "kubectl" else ("--version",),
        minors_older=older,
        minors_newer=newer,
        build_seconds=build_seconds,
        # Without these the server calls itself v0.0.0, and clients judge its abilities by that.
        version_variables=" ".join(
            f"{component}.{name}" for name in ("gitVersion=v{version}", "gitMajor={major}", "gitMinor={minor}")
        ),
    )


# The controller-manager and the scheduler may be one minor older than the API server but never newer, and kubectl one
# off either way (https://kubernetes.io/releases/version-skew-policy/); the windows hold for every mixture of found and
# built programs.
PROGRAMS: tuple[Program, ...] = (
    kubernetes("kube-apiserver", 0, 1, 290),
    Program(
        name="etcd",
        folder="kubernetes",
        module="go.etcd.io/etcd/server/v3",
        package="./etcd",
        version_arguments=("--version",),
        minors_older=1,
        minors_newer=9,
        build_seconds=15,
    ),
    Program(
        name="nats-server",
        folder="nats-server",
        module="github.com/nats-io/nats-server/v2",
        package="github.com/nats-io/nats-server/v2",
        version_arguments=("--version",),
        # 2.11 is the first with a time to live per key.
        minors_older=4,
        minors_newer=99,
        build_seconds=15,
    ),
    kubernetes("kube-controller-manager", 0, 0, 90),
    kubernetes("kube-scheduler", 0, 0, 10),
    kubernetes("kubectl", 1, 1, 15),
    Program(
        name="helm",
        folder="helm",
        module="helm.sh/helm/v4",
        package="helm.sh/helm/v4/cmd/helm",
        version_arguments=("version", "--short"),
        minors_older=3,
        minors_newer=99,
        build_seconds=120,
        version_variables="helm.sh/helm/v4/internal/version.version=v{version}",
    ),
)

# Not one of the cluster: only the tests of alert rules have it built.
PROMTOOL = Program(
    name="promtool",
    folder="promtool",
    module="github.com/prometheus/prometheus",
    package="github.com/prometheus/prometheus/cmd/promtool",
    # Prometheus 3.16 is v0.316 of its module, so one of the machine's own says another number.
    version_arguments=(),
    minors_older=0,
    minors_newer=0,
    build_seconds=240,
)


def pinned_version(go_mod: str, module: str) -> Version:
    """The version at which `go_mod` (the text of a go.mod) requires `module`."""
    match = re.search(rf"^(?:require\s+|\s+){re.escape(module)}\s+(v\S+)", go_mod, re.MULTILINE)
    version = Version.parse(match.group(1)) if match else None
    if version is None:
        raise ValueError(f"go.mod does not require {module}")
    return version


def is_suitable(program: Program, found: Version, pinned: Version) -> bool:
    """Whether a binary of version `found` serves as well as the pinned one."""
    oldest, newest = pinned.minor - program.minors_older, pinned.minor + program.minors_newer
    return found.major == pinned.major and oldest <= found.minor <= newest


def cache_folder(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".cache")
    return Path(base) / "ome" / "bin"


def candidates(program: Program, environ: Mapping[str, str]) -> Iterable[Path]:
    """Where a developer may already have the program, best first."""
    folders = [environ.get("KUBEBUILDER_ASSETS", ""), *environ.get("PATH", "").split(os.pathsep)]
    for folder in filter(None, folders):
        path = Path(folder) / program.name
        if path.is_file() and os.access(path, os.X_OK):
            yield path


def reported_version(program: Program, path: Path) -> Version | None:
    """What the binary says of itself; None when it says nothing that can be understood within 10 seconds."""
    try:
        result = subprocess.run(
            [path, *program.version_arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Version.parse(result.stdout + result.stderr)


def pin_of(program: Program) -> Version:
    return pinned_version((MODULES / program.folder / "go.mod").read_text(), program.module)


def locate(program: Program, environ: Mapping[str, str]) -> Path | None:
    """The binary to use, or None when it must be built."""
    pinned = pin_of(program)
    for path in candidates(program, environ) if program.version_arguments else ():
        found = reported_version(program, path)
        if found is not None and is_suitable(program, found, pinned):
            return path
    cached = cached_path(program, environ)
    return cached if cached.exists() else None


def cached_path(program: Program, environ: Mapping[str, str]) -> Path:
    return cache_folder(environ) / f"{program.name}-{pin_of(program)}"


@dataclass(frozen=True)
class Programs:
    """Every program of the cluster, ready to be started."""

    paths: Mapping[str, Path]

    def __getitem__(self, name: str) -> Path:
        return self.paths[name]

    def link_into(self, folder: Path) -> None:
        """Make each program callable by its plain name from `folder`, for people who put it on their PATH."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in self.paths.items():
            link = folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(path.absolute())
        _write_plugin(folder / "kubectl-ome_models")


def _write_plugin(path: Path) -> None:
    """The plugin of kubectl, run from the checkout."""
    repository = MODULES.parent.parent
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{repository}" exec "{sys.executable}" -m clients.kubectl "$@"\n')
    path.chmod(0o755)


def obtain(
    build: Callable[[Program, Path], None], environ: Mapping[str, str], programs: Iterable[Program] = PROGRAMS
) -> Programs:
    """Find every program and let `build` make the missing ones, in the given order, at the given path."""
    paths: dict[str, Path] = {}
    for program in programs:
        path = locate(program, environ)
        if path is None:
            path = cached_path(program, environ)
            build(program, path)
        paths[program.name] = path
    return Programs(paths)


def go_compiler(environ: Mapping[str, str], oldest: Version) -> Path | None:
    """A Go on the PATH that is at least `oldest`."""
    found = shutil.which("go", path=environ.get("PATH"))
    if found is None:
        return None
    # `go version` prints go1.27 for a release without a patch number; GOVERSION is its machine-readable spelling.
    output = subprocess.run(
        [found, "env", "GOVERSION"], capture_output=True, text=True, check=False, cwd="/"
    ).stdout.strip()
    version = Version.parse(output.removeprefix("go") + ".0")
    return Path(found) if version is not None and version >= oldest else None

"""What is wrong in five broken clusters is found as docs/guides/broken-clusters.md tells, in as many steps."""

import os
import re
import shlex
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from services.status.page.session import COOKIE
from tests.support.broken_clusters import FIVE, broken_fleet
from tests.support.fleet import Fleet
from tests.support.programs import ROOT

pytestmark = pytest.mark.cluster

GUIDE = ROOT / "docs" / "guides" / "broken-clusters.md"
_TERMINAL = re.compile(r"^```text\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """A command of the guide, and the lines that it is said to print; … stands for anything."""

    section: str
    command: str
    lines: tuple[str, ...]


def shown() -> list[Shown]:
    """Every command of the guide, with the section it stands in."""
    found = []
    for part in re.split(r"^## ", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE):
        section = part.partition(":")[0] if part.partition(":")[0] in {broken.name for broken in FIVE} else ""
        for block in _TERMINAL.findall(part):
            for piece in block.split("$ ")[1:]:
                command, *lines = piece.strip().splitlines()
                found.append(Shown(section, command, tuple(lines)))
    return found


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with broken_fleet() as fleet:
        yield fleet


def printed(fleet: Fleet, command: str) -> str:
    """What a command prints for somebody who has joined the cluster as the guide of the local cluster tells."""
    folder = fleet.cluster.state_dir
    environ = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder), **fleet.cluster.env()}
    ended = subprocess.run(shlex.split(command), env=environ, capture_output=True, text=True, timeout=150, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return " ".join(ended.stdout.split())


def says(output: str, line: str) -> bool:
    """Whether an output has a line of the guide, with whatever stands for …, and any space between words."""
    parts = [re.escape(" ".join(part.split())) for part in line.split("…")]
    return re.search(".*?".join(parts), output) is not None


def test_the_guide_tells_of_each_broken_model_and_counts_the_steps() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert {each.section for each in shown()} == {"", *(broken.name for broken in FIVE)}
    rows = dict(re.findall(r"^\| \[`(\w+)`\].*?\| (\d) steps \| \d steps \| \d steps \|$", text, re.MULTILINE))
    assert rows.keys() == {broken.name for broken in FIVE}
    for name, steps in rows.items():
        whys = [each for each in shown() if each.section == name and f"why {name}" in each.command][:1]
        looks = [each for each in shown() if each.section == name and "get daemonset" in each.command]
        assert int(steps) == 1 + len(whys) + len(looks), name


def test_each_command_of_the_guide_shows_what_the_guide_says(fleet: Fleet) -> None:
    missing = []
    for each in shown():
        output = printed(fleet, each.command)
        missing += [f"{each.command}: {line}\n{output}" for line in each.lines if not says(output, line)]
    assert not missing, "\n\n".join(missing)


def test_the_page_of_a_model_tells_the_cause_in_the_words_of_the_guide(fleet: Fleet) -> None:
    env = fleet.cluster.env()
    context = ssl.create_default_context(cafile=env["STATUS_CA"])
    context.check_hostname = False

    def page(path: str) -> str:
        headers = {"Cookie": f"{COOKIE}={env['STATUS_TOKEN']}", "Accept": "text/html"}
        request = urllib.request.Request(env["STATUS_PAGE"] + path, headers=headers)
        with urllib.request.urlopen(request, context=context) as answer:
            return str(answer.read().decode())

    for name, cause in {
        "chat": "lack gpu=H100",
        "huge": "the model needs 64 TiB",
        "sharded": "model-00003-of-00004.safetensors is missing",
        "small": "does not report",
    }.items():
        assert cause in page(f"/models/clusterbasemodels/{name}"), name

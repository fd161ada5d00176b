"""Looks for known vulnerabilities of what the images and the tools are made from.

Asks the database OSV for each version that a lock pins. It knows PyPI and Debian, so one question covers both halves of
an image; the API is described at https://google.github.io/osv.dev/api/.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from tools.audit.finding import Finding, NotChecked
from tools.images import debian

OSV = "https://api.osv.dev"
# The release of Debian below the images, as OSV names it.
DEBIAN = "Debian:12"
PYPI = "PyPI"
# OSV takes as many questions at once.
_BATCH = 1000
_TIMEOUT = aiohttp.ClientTimeout(total=60)


@dataclass(frozen=True, order=True)
class Pin:
    """One version that a lock names; `ecosystem` is OSV's word for where it comes from."""

    ecosystem: str
    name: str
    version: str
    lock: str


def python_pins(lock: str, text: str) -> list[Pin]:
    """What a lock of pip pins."""
    return [
        Pin(PYPI, name, version, lock)
        for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    ]


def debian_pins(lock: str, text: str) -> list[Pin]:
    """What the lock of Debian's packages pins: the sources, which is what Debian's security team follows."""
    # A rebuild of a package without a change of its source adds +b and a number to the version.
    found = {
        Pin(DEBIAN, package.path.split("/")[-2], re.sub(r"\+b\d+$", "", package.version), lock)
        for package in debian.read_lock(text)
    }
    return sorted(found)


async def check(pins: Iterable[Pin], address: str = OSV) -> list[Finding]:
    """A finding for each vulnerability of each pin. Raises NotChecked when the database does not answer.

    Of Debian only those count that a newer package of the same release has fixed: for the others there is nothing to
    pin, and Debian lists many that it takes for unimportant.
    """
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True, raise_for_status=True) as session:
            return await _check(session, address, sorted(set(pins)))
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise NotChecked(f"{address} does not answer ({type(error).__name__})") from error


async def _check(session: aiohttp.ClientSession, address: str, pins: list[Pin]) -> list[Finding]:
    found = []
    for start in range(0, len(pins), _BATCH):
        batch = pins[start : start + _BATCH]
        for pin, names in zip(batch, await _names(session, address, batch), strict=True):
            for name in names:
                async with session.get(f"{address}/v1/vulns/{name}") as answer:
                    vulnerability = await answer.json()
                fixed = fixed_versions(vulnerability, pin)
                if pin.ecosystem == DEBIAN and not fixed:
                    continue
                found.append(Finding("vulnerabilities", f"{pin.lock}: {pin.name} {pin.version}", _words(name, fixed)))
    return found


async def _names(session: aiohttp.ClientSession, address: str, pins: list[Pin]) -> list[list[str]]:
    """The names of the vulnerabilities of each pin."""
    names: list[list[str]] = [[] for _ in pins]
    tokens: dict[int, str] = dict.fromkeys(range(len(pins)), "")
    while tokens:
        questions = [_question(pins[number], token) for number, token in tokens.items()]
        async with session.post(f"{address}/v1/querybatch", json={"queries": questions}) as answer:
            results = (await answer.json())["results"]
        following = {}
        for number, result in zip(tokens, results, strict=True):
            names[number] += [each["id"] for each in result.get("vulns") or ()]
            if token := result.get("next_page_token"):
                following[number] = token
        tokens = following
    return names


def _question(pin: Pin, token: str) -> dict[str, Any]:
    question: dict[str, Any] = {"package": {"name": pin.name, "ecosystem": pin.ecosystem}, "version": pin.version}
    return question | {"page_token": token} if token else question


def fixed_versions(vulnerability: Mapping[str, Any], pin: Pin) -> list[str]:
    """The versions of the pin's package that no longer have a vulnerability, as OSV describes it."""
    return [
        event["fixed"]
        for affected in vulnerability.get("affected") or ()
        if affected.get("package", {}).get("ecosystem") == pin.ecosystem
        and _canonical(affected["package"].get("name", "")) == _canonical(pin.name)
        for each in affected.get("ranges") or ()
        if each.get("type") == "ECOSYSTEM"
        for event in each.get("events") or ()
        if "fixed" in event
    ]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _words(name: str, fixed: list[str]) -> str:
    repaired = f"fixed in {', '.join(fixed)}" if fixed else "no version is known that has no such fault"
    return f"{name}, {repaired}; see https://osv.dev/vulnerability/{name}"

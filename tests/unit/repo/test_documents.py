"""The documents can be read: links lead somewhere, and lines fit a screen."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.unit.repo.checkout import ROOT, files

LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
# A table's row cannot be broken.
TABLE_ROW = re.compile(r"\s*\|")
LONGEST_LINE = 100


def links(document: Path) -> Iterator[tuple[str, str]]:
    """Path and fragment of every link of a document that stays inside the repository."""
    text = FENCE.sub("", (ROOT / document).read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if not re.match(r"[a-z][a-z0-9+.-]*:", target):
            path, _, fragment = target.partition("#")
            yield path, fragment


def anchors(document: Path) -> set[str]:
    """The fragments that GitHub gives to the headings of a document."""
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.add(re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-"))
    return found


def test_links_in_documents_lead_to_files_and_headings() -> None:
    broken = []
    for document in files("*.md"):
        for path, fragment in links(document):
            target = (ROOT / document.parent / path).resolve() if path else ROOT / document
            if not target.exists() or (fragment and target.suffix == ".md" and fragment not in anchors(target)):
                broken.append(f"{document}: {path}#{fragment}")
    assert not broken


def test_lines_of_documents_are_wrapped() -> None:
    long = [
        f"{document}:{number}"
        for document in files("*.md")
        for number, line in enumerate((ROOT / document).read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > LONGEST_LINE and not TABLE_ROW.match(line)
    ]
    assert not long, f"wrap at {LONGEST_LINE}"


def test_every_guide_is_linked_from_the_readme() -> None:
    linked = {path for path, _ in links(Path("README.md"))}
    assert not {str(guide) for guide in files("docs/guides/*.md")} - linked

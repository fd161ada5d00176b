"""Lays out the sources of the site: the documents of the repository, the reference that is made, and the navigation.

The repository keeps its documents where readers of the repository look for them; the site has other paths. What links
between documents is rewritten here, so that a link works in both places. What a document links besides documents, such
as a sample, is copied and becomes a download.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deploy.crd.generate import definitions
from tools.docs.reference import kinds, services, values

REPOSITORY = Path(__file__).resolve().parents[2]
_FENCE = re.compile(
    r"^(?P<mark>```+|~~~+)(?P<language>\S*)[^\n]*\n(?P<body>.*?)^(?P=mark)[ \t]*$\n?", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(
    r"(?P<before>!?\[[^\]]*\]\(<?)(?P<target>[^)\s>#]*)(?P<fragment>#[^)\s>]*)?(?P<after>>?(?:\s+\"[^\"]*\")?\))"
)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:")

# Documents outside of docs/, by their pages.
PAGES = {
    "README.md": "about.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
}


@dataclass(frozen=True)
class Section:
    """One part of the navigation: its title, and its pages in the order in which one reads them."""

    title: str
    pages: Sequence[str]


# What stands nowhere else comes under the last title, so that no page can be forgotten.
NAVIGATION = (
    Section("Begin", ("about", "guides/local-cluster", "guides/using-models", "guides/questions", "guides/glossary")),
    Section(
        "Models",
        ("guides/base-models", "guides/sources", "guides/revisions", "guides/teams"),
    ),
    Section(
        "See and ask",
        (
            "guides/page",
            "guides/kubectl-plugin",
            "guides/python-client",
            "guides/broken-clusters",
            "guides/troubleshooting",
        ),
    ),
    Section(
        "Run OME",
        (
            "guides/installing",
            "guides/nats",
            "guides/networks",
            "guides/vendor-drivers",
            "guides/sizing",
            "guides/operations",
            "guides/monitoring",
            "guides/upgrading",
            "security",
            "reporting",
        ),
    ),
    Section("Reference", ("reference/index", "changes")),
    Section(
        "Develop",
        (
            "contributing",
            "guides/architecture",
            "guides/developing",
            "guides/parser",
            "guides/adding-a-family",
            "guides/adding-a-source",
            "adr/index",
        ),
    ),
)
_REST = "More"
# Pages whose own title is that of the site.
_TITLES = {"about": "What it is <about>"}

Draw = Callable[[str], str]


class DocumentProblem(ValueError):
    """A document that cannot become a page; the message names it and says what is wrong."""


def lay_out(folder: Path, draw: Draw, repository: Path = REPOSITORY) -> None:
    """Write all sources of the site below `folder`, which becomes what it shall be and nothing else.

    `draw` makes an SVG of a diagram in Mermaid.
    """
    shutil.rmtree(folder, ignore_errors=True)
    documents = {path: page_of(path) for path in _documents(repository)}
    for path, page in documents.items():
        text = (repository / path).read_text(encoding="utf-8")
        _write(folder / page, _with_diagrams(_with_links(text, path, page, folder, repository), page, folder, draw))
    for page, text in reference(repository).items():
        _write(folder / page, text)
    decisions = sorted(page for page in documents.values() if page.startswith("adr/"))
    _write(
        folder / "adr" / "index.md", _index("Decisions", "Why OME is built as it is, one page each.", decisions, "adr")
    )
    index = folder / "index.md"
    _write(index, index.read_text(encoding="utf-8") + navigation(_pages_below(folder)))


def page_of(document: str) -> str:
    """The page that a document of the repository becomes."""
    return PAGES.get(document) or str(PurePosixPath(document).relative_to("docs"))


def navigation(pages: Sequence[str]) -> str:
    """The sections as toctrees, which are not shown where they stand; whatever has no place comes last."""
    placed = {page for section in NAVIGATION for page in section.pages}
    inner = ("index", "reference/", "adr/")
    rest = [page for page in pages if page not in placed and not page.startswith(inner)]
    sections = [*NAVIGATION, *([Section(_REST, rest)] if rest else [])]
    return "".join(_toctree(section.title, [_TITLES.get(page, page) for page in section.pages]) for section in sections)


def _toctree(title: str, entries: Sequence[str]) -> str:
    listed = "\n".join(entries)
    return f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{listed}\n```\n"


def reference(repository: Path = REPOSITORY) -> dict[str, str]:
    """The pages of the reference, which are made from what they describe."""
    kinds_pages = {f"reference/{each['spec']['names']['singular']}.md": kinds.page(each) for each in definitions()}
    files = services.described_files(repository / "proto")
    names = {file.package: f"{file.package.replace('.', '-')}.md" for file in files}
    service_pages = {f"reference/{names[file.package]}": services.page(file, names) for file in files}
    charts = sorted(path.parent for path in (repository / "deploy" / "helm").glob("*/values.schema.json"))
    value_pages = {f"reference/values-{chart.name}.md": values.page(chart) for chart in charts}
    made = {**kinds_pages, **service_pages, **value_pages}
    about = (
        "Made from the definitions of the kinds, the protos and the schemas of the charts, each time the site is built."
    )
    return {**made, "reference/index.md": _index("Reference", about, list(made), "reference")}


def links(text: str) -> Iterator[tuple[str, str]]:
    """Target and fragment of each link of a document that stays in the repository."""
    for part, is_code in _parts(text):
        if not is_code:
            for match in _LINK.finditer(part):
                if not _ELSEWHERE.match(match["target"]):
                    yield match["target"], match["fragment"] or ""


def _documents(repository: Path) -> list[str]:
    found = [str(path.relative_to(repository)) for path in sorted((repository / "docs").rglob("*.md"))]
    return [*PAGES, *found]


def _with_links(text: str, document: str, page: str, folder: Path, repository: Path) -> str:
    """The text of a document with the links of its page; copies what it links besides documents."""

    def rewritten(match: re.Match[str]) -> str:
        target, fragment = match["target"], match["fragment"] or ""
        if not target or _ELSEWHERE.match(target):
            return match[0]
        wanted = os.path.normpath(PurePosixPath(document).parent / target)
        new = os.path.relpath(_placed(wanted, document, folder, repository), PurePosixPath(page).parent)
        return f"{match['before']}{new}{fragment}{match['after']}"

    return "".join(part if is_code else _LINK.sub(rewritten, part) for part, is_code in _parts(text))


def _placed(wanted: str, document: str, folder: Path, repository: Path) -> str:
    """Where the site has what a document links, which may be a folder, a document or another file."""
    source = repository / wanted
    if wanted in PAGES or (wanted.startswith("docs/") and wanted.endswith(".md")):
        return page_of(wanted)
    if source.is_dir() and wanted.startswith("docs/"):
        return f"{page_of(wanted)}/index.md"
    if not source.is_file():
        raise DocumentProblem(f"{document} links {wanted}, which is not a file that the site could hold")
    copy = page_of(wanted) if wanted.startswith("docs/") else f"files/{wanted}"
    (folder / copy).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / copy)
    return copy


def _with_diagrams(text: str, page: str, folder: Path, draw: Draw) -> str:
    """The text with each diagram as a picture beside the page."""
    parts, count = [], 0
    for part, is_code in _parts(text):
        match = _FENCE.fullmatch(part) if is_code else None
        if match is None or match["language"] != "mermaid":
            parts.append(part)
            continue
        count += 1
        picture = PurePosixPath(page).with_suffix(f".diagram-{count}.svg")
        _write(folder / picture, draw(match["body"]))
        parts.append(f"![Diagram of what the text around it says]({picture.name})\n")
    return "".join(parts)


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """A document cut into what is code in fences, and what is not."""
    end = 0
    for match in _FENCE.finditer(text):
        yield text[end : match.start()], False
        yield match[0], True
        end = match.end()
    yield text[end:], False


def _index(title: str, about: str, pages: Sequence[str], folder: str) -> str:
    listed = "\n".join(PurePosixPath(page).relative_to(folder).stem for page in pages)
    return f"# {title}\n\n{about}\n\n```{{toctree}}\n:titlesonly:\n\n{listed}\n```\n"


def _pages_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.md"))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")

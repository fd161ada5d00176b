"""The site of the documentation as `make docs-build` makes it: whole, without dead links, and from one place alone."""

import os
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tools.docs.generator import Generator
from tools.docs.staging import NAVIGATION
from tools.localcluster.programs import cache_folder

# What a browser loads by itself, as against what a reader may follow.
_LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """The names, links and loaded files of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.names.add(values.get("id", ""))
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if (name := _LOADED.get(tag)) and name in values:
            self.loaded.append(values[name])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site. Building it fails for every link that the generator cannot follow."""
    return Generator(cache_folder(os.environ).parent, os.environ).build(tmp_path_factory.mktemp("docs"))


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def inner_links(pages: dict[Path, Page]) -> Iterator[tuple[Page, str, Path, str]]:
    """Each link inside the site: where it stands, as it is written, the file and the name that it leads to."""
    for page in pages.values():
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if not parts.scheme and not parts.netloc:
                target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
                yield page, link, target, unquote(parts.fragment)


def test_every_page_of_the_navigation_is_there(pages: dict[Path, Page], site: Path) -> None:
    wanted = {(site / page).with_suffix(".html") for section in NAVIGATION for page in section.pages}
    assert wanted <= set(pages)
    assert len(list((site / "adr").glob("0*.html"))) > 30
    assert len(list((site / "reference").glob("*.html"))) > 12


def test_links_inside_the_site_lead_to_files_and_headings(pages: dict[Path, Page]) -> None:
    broken = []
    for page, link, target, name in inner_links(pages):
        known = pages[target].names if target in pages else set()
        if not target.is_file() or (name and target in pages and name not in known):
            broken.append(f"{page.path.name}: {link}")
    assert not broken


def test_no_page_loads_anything_from_elsewhere(pages: dict[Path, Page], site: Path) -> None:
    assert all(page.loaded for page in pages.values())
    assert [link for page in pages.values() for link in page.loaded if urlsplit(link).netloc] == []
    styles = [path for path in site.rglob("*.css") if "url(http" in (text := path.read_text()) or "url(//" in text]
    assert styles == []


def test_the_search_knows_reasons_fields_and_values(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8").lower()
    # The index holds stems, as the search looks for.
    for word in ("insufficientdisk", "maxconcurrentnod", "highwatermarkperc", "getmodelrequest"):
        assert word in index, word


def test_diagrams_are_drawn_when_the_site_is_built(site: Path) -> None:
    [about] = site.rglob("about.diagram-1.svg")
    assert "kube-apiserver" in about.read_text(encoding="utf-8")
    assert "mermaid" not in (site / "about.html").read_text(encoding="utf-8").lower()

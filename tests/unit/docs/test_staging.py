"""The documents of the repository become pages whose links work, and each has a place in the navigation."""

import re
from pathlib import Path

import pytest

from tools.docs.staging import NAVIGATION, DocumentProblem, lay_out, links, navigation, page_of


def drawn(diagram: str) -> str:
    """Stands for what draws diagrams."""
    return f"<svg>{diagram}</svg>"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small repository with a document of each kind."""
    root = tmp_path / "repository"
    for name in ("docs/guides", "docs/adr", "deploy/helm", "proto/fruit/v1"):
        (root / name).mkdir(parents=True)
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"):
        (root / name).write_text(f"# {name}\n")
    (root / "README.md").write_text("# About\n\n[a](docs/guides/a.md#part) [all](docs/adr) [yaml](deploy/x.yaml)\n")
    (root / "deploy" / "x.yaml").write_text("a: 1\n")
    (root / "docs" / "index.md").write_text("# Start\n\n[read](../README.md)\n")
    (root / "docs" / "adr" / "0001-why.md").write_text("# Why\n")
    (root / "docs" / "guides" / "a.png").write_bytes(b"png")
    text = "# A\n\n![picture](a.png) [out](https://example.com) [here](#a) [back](../../README.md)\n"
    (root / "docs" / "guides" / "a.md").write_text(
        text + "\n```mermaid\nflowchart\n```\n\n```yaml\n[not](a-link)\n```\n"
    )
    return root


def test_links_lead_to_pages_files_and_indexes(repository: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    lay_out(site, drawn, repository)
    about = (site / "about.md").read_text()
    assert "[a](guides/a.md#part) [all](adr/index.md) [yaml](files/deploy/x.yaml)" in about
    assert (site / "files/deploy/x.yaml").read_text() == "a: 1\n"
    assert "[read](about.md)" in (site / "index.md").read_text()
    assert "0001-why" in (site / "adr/index.md").read_text()
    page = (site / "guides/a.md").read_text()
    assert "![picture](a.png) [out](https://example.com) [here](#a) [back](../about.md)" in page
    assert (site / "guides/a.png").read_bytes() == b"png"
    assert "[not](a-link)" in page
    assert "![Diagram of what the text around it says](a.diagram-1.svg)" in page
    assert (site / "guides/a.diagram-1.svg").read_text() == "<svg>flowchart\n</svg>"


def test_a_link_to_nothing_is_named(repository: Path, tmp_path: Path) -> None:
    (repository / "docs" / "guides" / "a.md").write_text("[gone](../nothing.yaml)\n")
    with pytest.raises(DocumentProblem, match=r"docs/guides/a\.md links docs/nothing\.yaml"):
        lay_out(tmp_path / "site", drawn, repository)


def test_a_page_without_a_place_comes_under_the_last_title() -> None:
    placed = [page for section in NAVIGATION for page in section.pages]
    assert "More" not in navigation([*placed, "index", "adr/0001-why", "reference/x"])
    assert ":caption: More\n\nguides/new\n```" in navigation([*placed, "guides/new"])


def test_every_document_of_the_repository_is_laid_out(tmp_path: Path) -> None:
    lay_out(tmp_path, drawn)
    text = (tmp_path / "index.md").read_text()
    named = set(re.findall(r"^(?:.* <)?([a-z][\w/-]+)>?$", text, re.MULTILINE))
    named |= {f"{folder}/{line}" for folder in ("adr", "reference") for line in listed(tmp_path / folder / "index.md")}
    pages = {str(path.relative_to(tmp_path).with_suffix("")) for path in tmp_path.rglob("*.md")}
    assert pages - named == {"index"}
    assert named - pages == set()
    for page in sorted(pages):
        for target, _ in links((tmp_path / page).with_suffix(".md").read_text()):
            assert not target or ((tmp_path / page).parent / target).exists(), f"{page}: {target}"


def listed(index: Path) -> set[str]:
    """The pages that an index lists."""
    return set(re.findall(r"^[\w-]+$", index.read_text().partition(":titlesonly:")[2], re.MULTILINE))


def test_documents_keep_their_names() -> None:
    assert page_of("README.md") == "about.md"
    assert page_of("docs/guides/a.md") == "guides/a.md"

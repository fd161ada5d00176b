from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.artifact.errors import InvalidValue
from libs.chassis.errors import Missing
from services.fetcher.store.paths import Place, default_path, place_model, resolve_local

ROOTS = ("/models", "/raid/models", "/raid/models/fast")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/models/llama", Place("/models", "llama")),
        ("/models//team/llama/", Place("/models", "team/llama")),
        ("/raid/models/x", Place("/raid/models", "x")),
        ("/raid/models/fast/x", Place("/raid/models/fast", "x")),
        ("/raid/models/faster", Place("/raid/models", "faster")),
        ("/models/..dots", Place("/models", "..dots")),
    ],
)
def test_a_path_belongs_to_the_innermost_root(path: str, place: Place) -> None:
    assert place_model(path, ROOTS) == place


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/models", "is itself a model root: choose a directory below it, such as /models/NAME"),
        ("/models/", "is itself a model root"),
        ("/", "is not below a model root"),
        ("/modelsx/a", "is not below a model root"),
        ("/etc/passwd", "/models, /raid/models"),
        ("models/a", "is not absolute"),
        ("", "is not absolute"),
        ("/models/../etc", "contains '.' or '..'"),
        ("/models/./a", "contains '.' or '..'"),
        ("/models/.ome", "keeps for itself"),
        ("/models/a/.ome/b", "keeps for itself"),
        ("/models/a\0b", "control character"),
        ("/models/a\nb", "control character"),
        ("/models/\udc80", "Unicode"),
        ("/models/" + "a" * 256, "too long"),
        ("/models/" + "a/" * 2000, "too long"),
    ],
)
def test_an_unsafe_path_is_refused_with_a_sentence(path: str, says: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        place_model(path, ROOTS)
    assert raised.value.reason == "InvalidPath"
    assert says in raised.value.message


@given(st.lists(st.sampled_from(["models", "raid", "fast", "a", ".", "..", "", ".ome", "x y", "é"]), max_size=7))
def test_a_path_is_refused_exactly_when_it_is_unsafe_and_lies_below_its_root_otherwise(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    named = [part for part in parts if part]
    below = [root for root in ROOTS if f"/{'/'.join(named)}".startswith(f"{root}/")]
    if not below or {".", "..", ".ome"} & set(named):
        with pytest.raises(InvalidValue):
            place_model(path, ROOTS)
    else:
        place = place_model(path, ROOTS)
        assert place.root == max(below, key=len)
        assert place.relative
        assert not {"", ".", "..", ".ome"} & set(place.relative.split("/"))
        assert place_model(place.path, ROOTS) == place


def test_a_model_without_a_path_lies_below_the_first_root_by_kind_and_scope() -> None:
    assert default_path("/models", "ClusterBaseModel", "", "llama-3.1") == "/models/clusterbasemodel/llama-3.1"
    assert default_path("/models", "BaseModel", "team", "llama") == "/models/basemodel/team/llama"


class TestLocal:
    """local:// paths, with a directory that stands for the node's file system."""

    @pytest.fixture
    def node(self, tmp_path: Path) -> Path:
        for directory in ("models/llama", "raid/models/big", "etc"):
            (tmp_path / directory).mkdir(parents=True)
        (tmp_path / "models" / "file").write_text("x")
        return tmp_path

    def test_a_directory_is_found(self, node: Path) -> None:
        assert resolve_local(node, ROOTS, "/models/llama") == node / "models" / "llama"

    def test_an_absolute_link_means_what_it_means_on_the_node(self, node: Path) -> None:
        (node / "models" / "link").symlink_to("/raid/models/big")
        assert resolve_local(node, ROOTS, "/models/link") == node / "raid" / "models" / "big"

    def test_a_relative_link_is_followed(self, node: Path) -> None:
        (node / "models" / "link").symlink_to("../raid/./models/big")
        assert resolve_local(node, ROOTS, "/models/link") == node / "raid" / "models" / "big"

    @pytest.mark.parametrize("target", ["/etc", "../etc", "../../../../../../etc", "/models/../etc", "/"])
    def test_a_link_out_of_the_roots_is_refused(self, target: str, node: Path) -> None:
        (node / "models" / "link").symlink_to(target)
        with pytest.raises(InvalidValue, match="leads out"):
            resolve_local(node, ROOTS, "/models/link")

    def test_links_in_a_circle_are_refused(self, node: Path) -> None:
        (node / "models" / "a").symlink_to("b")
        (node / "models" / "b").symlink_to("a")
        with pytest.raises(InvalidValue, match="too many"):
            resolve_local(node, ROOTS, "/models/a")

    @pytest.mark.parametrize("path", ["/models/none", "/models/file", "/models/file/below"])
    def test_what_is_no_directory_is_missing(self, path: str, node: Path) -> None:
        with pytest.raises(Missing) as raised:
            resolve_local(node, ROOTS, path)
        assert raised.value.reason == "NotFound"

    @pytest.mark.parametrize("path", ["/etc", "/models/../etc", "models/llama"])
    def test_a_path_outside_the_roots_is_refused(self, path: str, node: Path) -> None:
        with pytest.raises(InvalidValue):
            resolve_local(node, ROOTS, path)

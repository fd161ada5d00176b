from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.artifact.errors import InvalidValue
from libs.chassis.errors import Missing
from services.fetcher.store.paths import Place, Tenant, check_owner, default_path, place_model, resolve_local

ANYBODY = Tenant("ClusterBaseModel", "", "anybody")
TENANT = Tenant("BaseModel", "team", "llama")
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
    assert default_path("/models", Tenant("ClusterBaseModel", "", "llama-3.1")) == "/models/clusterbasemodel/llama-3.1"
    assert default_path("/models", Tenant("BaseModel", "team", "llama")) == "/models/basemodel/team/llama"


class TestLocal:
    """local:// paths, with a directory that stands for the node's file system."""

    @pytest.fixture
    def node(self, tmp_path: Path) -> Path:
        for directory in ("models/llama", "raid/models/big", "etc"):
            (tmp_path / directory).mkdir(parents=True)
        (tmp_path / "models" / "file").write_text("x")
        return tmp_path

    def test_a_directory_is_found(self, node: Path) -> None:
        assert resolve_local(node, ROOTS, "/models/llama", ANYBODY) == node / "models" / "llama"

    def test_an_absolute_link_means_what_it_means_on_the_node(self, node: Path) -> None:
        (node / "models" / "link").symlink_to("/raid/models/big")
        assert resolve_local(node, ROOTS, "/models/link", ANYBODY) == node / "raid" / "models" / "big"

    def test_a_relative_link_is_followed(self, node: Path) -> None:
        (node / "models" / "link").symlink_to("../raid/./models/big")
        assert resolve_local(node, ROOTS, "/models/link", ANYBODY) == node / "raid" / "models" / "big"

    @pytest.mark.parametrize("target", ["/etc", "../etc", "../../../../../../etc", "/models/../etc", "/"])
    def test_a_link_out_of_the_roots_is_refused(self, target: str, node: Path) -> None:
        (node / "models" / "link").symlink_to(target)
        with pytest.raises(InvalidValue, match="leads out"):
            resolve_local(node, ROOTS, "/models/link", ANYBODY)

    def test_links_in_a_circle_are_refused(self, node: Path) -> None:
        (node / "models" / "a").symlink_to("b")
        (node / "models" / "b").symlink_to("a")
        with pytest.raises(InvalidValue, match="too many"):
            resolve_local(node, ROOTS, "/models/a", ANYBODY)

    @pytest.mark.parametrize("path", ["/models/none", "/models/file", "/models/file/below"])
    def test_what_is_no_directory_is_missing(self, path: str, node: Path) -> None:
        with pytest.raises(Missing) as raised:
            resolve_local(node, ROOTS, path, ANYBODY)
        assert raised.value.reason == "NotFound"

    @pytest.mark.parametrize("path", ["/etc", "/models/../etc", "models/llama"])
    def test_a_path_outside_the_roots_is_refused(self, path: str, node: Path) -> None:
        with pytest.raises(InvalidValue):
            resolve_local(node, ROOTS, path, ANYBODY)


@pytest.mark.parametrize(
    ("relative", "tenant"),
    [
        ("basemodel/team/llama", TENANT),
        ("basemodels/llama", TENANT),
        ("team/basemodel/other/llama", TENANT),
        ("clusterbasemodel/anybody", ANYBODY),
        ("basemodel/team/llama", Tenant("BaseModel", "team", "llama", confined=True)),
    ],
)
def test_a_model_may_stand_at_its_own_default_path_and_outside_these_folders(relative: str, tenant: Tenant) -> None:
    check_owner(Place("/raid/models", relative), tenant)


@pytest.mark.parametrize("folder", ["basemodel", "clusterbasemodel", "finetunedweight"])
@pytest.mark.parametrize("below", ["", "/llama", "/team", "/team/other", "/team/llama/deeper", "/other/llama"])
@pytest.mark.parametrize("tenant", [TENANT, ANYBODY, Tenant("FineTunedWeight", "", "weights")])
def test_the_folders_of_default_paths_are_closed_to_all_but_their_own_model(
    folder: str, below: str, tenant: Tenant
) -> None:
    with pytest.raises(InvalidValue, match=r"default path only: write /models/.* No setting allows") as raised:
        check_owner(Place("/models", folder + below), tenant)
    assert raised.value.reason == "InvalidPath"


def test_a_confined_model_is_told_which_setting_keeps_it_in_its_folder() -> None:
    with pytest.raises(
        InvalidValue, match=r"write /models/basemodel/team/llama .* namespacedPaths of the controller's"
    ):
        check_owner(Place("/models", "llama"), Tenant("BaseModel", "team", "llama", confined=True))


@pytest.mark.parametrize("tenant", [TENANT, ANYBODY])
def test_no_model_is_read_from_where_the_fetcher_keeps_files(tmp_path: Path, tenant: Tenant) -> None:
    (tmp_path / "models" / ".ome" / "artifacts" / "x").mkdir(parents=True)
    (tmp_path / "models" / "link").symlink_to(".ome/artifacts/x")
    for path in ("/models/.ome/artifacts/x", "/models/link"):
        with pytest.raises(InvalidValue, match="name the source of the model instead"):
            resolve_local(tmp_path, ROOTS, path, tenant)


@pytest.mark.parametrize("path", ["/models", "/models/basemodel", "/models/basemodel/other/m", "/models/to-other"])
def test_a_model_with_a_namespace_reads_no_folder_of_others(tmp_path: Path, path: str) -> None:
    (tmp_path / "models" / "basemodel" / "other" / "m").mkdir(parents=True)
    (tmp_path / "models" / "basemodel" / "team" / "m").mkdir(parents=True)
    (tmp_path / "models" / "to-other").symlink_to("basemodel/other/m")
    with pytest.raises(InvalidValue) as raised:
        resolve_local(tmp_path, ROOTS, path, TENANT)
    assert raised.value.reason == "InvalidPath"
    assert resolve_local(tmp_path, ROOTS, "/models/basemodel/team/m", TENANT).name == "m"
    assert resolve_local(tmp_path, ROOTS, path, ANYBODY).is_dir()

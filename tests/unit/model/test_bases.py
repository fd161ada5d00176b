"""Which base model a FineTunedWeight adapts while objects come and go in any order."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from libs.model.bases import Bases, base_reference, served_reference


def base(uid: str, namespace: str = "", name: str = "llama") -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    kind = "BaseModel" if namespace else "ClusterBaseModel"
    return {"kind": kind, "metadata": {"uid": uid, "name": name, **place}, "spec": {}}


def weight(uid: str = "w", namespace: str = "", name: str = "llama") -> dict[str, Any]:
    reference = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"kind": "FineTunedWeight", "metadata": {"uid": uid, "name": uid}, "spec": {"baseModelRef": reference}}


def known(*items: dict[str, Any]) -> Bases:
    bases = Bases()
    for item in items:
        bases.object_changed(None, item)
    return bases


def test_a_reference_without_a_namespace_means_the_cluster_scoped_model() -> None:
    bases = known(weight(), base("own", "team-a"), base("shared"))
    assert bases.base_of("w") == "shared"
    assert bases.referring_to("shared") == {"w"}
    assert not bases.referring_to("own")


def test_the_model_of_the_namespace_comes_before_that_of_the_cluster() -> None:
    bases = known(weight(namespace="team-a"), base("shared"))
    assert bases.base_of("w") == "shared"
    assert bases.object_changed(None, base("own", "team-a")) == {"w", "own", "shared"}
    assert bases.base_of("w") == "own"
    assert bases.object_changed(base("own", "team-a"), None) == {"w", "own", "shared"}
    assert bases.base_of("w") == "shared"


def test_a_missing_base_is_told_by_all_the_names_it_may_have() -> None:
    alone, namespaced = base_reference(weight()), base_reference(weight(namespace="team-a"))
    assert alone is not None
    assert "ClusterBaseModel llama, which spec.baseModelRef names, does not exist" in alone.missing
    assert namespaced is not None
    assert namespaced.missing.startswith("neither BaseModel team-a/llama nor ClusterBaseModel llama exists")


def test_an_edit_that_keeps_the_reference_ties_nothing_anew() -> None:
    bases = known(weight(), base("shared"))
    assert bases.object_changed(weight(), {**weight(), "status": {}}) == set()
    assert bases.object_changed(base("shared"), {**base("shared"), "status": {}}) == set()


def test_a_base_that_is_made_anew_under_its_name_takes_the_place_of_the_former() -> None:
    bases = known(weight(), base("first"))
    assert bases.object_changed(base("first"), base("second")) == {"w", "first", "second"}
    assert bases.base_of("w") == "second"
    # The news of the first one's end may come late.
    assert bases.object_changed(base("first"), None) == set()
    assert bases.referring_to("second") == {"w"}


_ITEMS = st.one_of(
    st.builds(base, st.sampled_from("123"), st.sampled_from(["", "a"]), st.sampled_from(["x", "y"])),
    st.builds(weight, st.sampled_from("456"), st.sampled_from(["", "a"]), st.sampled_from(["x", "y"])),
)


@given(st.lists(st.tuples(_ITEMS, st.booleans()), max_size=12))
def test_the_index_says_what_the_objects_that_are_there_say(history: list[tuple[dict[str, Any], bool]]) -> None:
    bases, there = Bases(), dict[str, dict[str, Any]]()
    for item, comes in history:
        uid = item["metadata"]["uid"]
        before = there.pop(uid, None)
        taken = [
            each
            for each, other in there.items()
            if item["kind"] != "FineTunedWeight"
            and (other["kind"], other["metadata"].get("namespace"), other["metadata"]["name"])
            == (item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"])
        ]
        if before and before["kind"] != "FineTunedWeight":
            bases.object_changed(before, None)
            before = None
        for each in taken:
            bases.object_changed(there.pop(each), None)
        if comes:
            there[uid] = item
        if before or comes:
            bases.object_changed(before, item if comes else None)
    for uid, item in there.items():
        reference = base_reference(item)
        if reference is None:
            continue
        places = {
            (each["metadata"].get("namespace", ""), each["metadata"]["name"]): other
            for other, each in there.items()
            if each["kind"] != "FineTunedWeight"
        }
        meant = next((places[place] for place in reference.places if place in places), None)
        assert bases.base_of(uid) == meant
        assert meant is None or uid in bases.referring_to(meant)


def service(uid: str = "s", **model: str) -> dict[str, Any]:
    metadata = {"uid": uid, "name": uid, "namespace": "team-a"}
    return {"kind": "InferenceService", "metadata": metadata, "spec": {"model": model}}


def test_a_service_means_a_model_of_its_namespace_or_of_the_cluster_or_the_kind_that_it_names() -> None:
    bases = Bases("InferenceService", served_reference)
    any_kind, shared = service("any", name="llama"), service("shared", name="llama", kind="ClusterBaseModel")
    for item in (any_kind, shared, base("own", "team-a"), base("cluster"), base("other", "team-b"), weight()):
        bases.object_changed(None, item)
    assert [bases.base_of(uid) for uid in ("any", "shared", "w")] == ["own", "cluster", None]
    assert bases.referring_to("other") == set()
    assert bases.object_changed(base("own", "team-a"), None) == {"any", "own", "cluster"}
    assert bases.referring_to("cluster") == {"any", "shared"}

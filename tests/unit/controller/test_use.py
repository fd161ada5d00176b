"""Which Pods use which model: by volumes at, below and above its path, and by the annotation."""

import asyncio
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.chassis.health import Health
from ome.fetch.v1 import fetch_pb2
from ome.model.v1.model_pb2 import MODEL_KIND_BASE_MODEL, MODEL_KIND_CLUSTER_BASE_MODEL, ModelRef
from services.controller.pod_watch import PodWatch
from services.controller.use import (
    MODEL_ANNOTATION,
    PodView,
    UseIndex,
    project_pod,
    summary,
    told_use,
    users,
    view_pod,
)

ROOT, PATH = "/models", "/models/meta/llama"
CLUSTER = ModelRef(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name="llama", uid="c")
TEAM = ModelRef(kind=MODEL_KIND_BASE_MODEL, namespace="team", name="llama", uid="t")


def pod(*paths: str, model: str | None = None, namespace: str = "serving", since: int = 100, **more: Any) -> PodView:
    fields: dict[str, Any] = {"name": "server", "node": "n1", "started": True} | more
    return PodView(namespace=namespace, paths=paths, model=model, since=since, **fields)


def uses(view: PodView, ref: ModelRef | None = CLUSTER, before: float | None = None) -> bool:
    return bool(users([view], ref, ROOT, [PATH], before))


MOUNTED = {
    "the path of the model": (pod(PATH), True),
    "a directory in the model": (pod(f"{PATH}/tokenizer"), True),
    "the model root": (pod(ROOT), True),
    "a folder between": (pod("/models/meta"), True),
    "the file system of the node, as agents do": (pod("/"), False),
    "a folder above the model root": (pod("/mnt/models"), False),
    "another model": (pod("/models/meta/llama-2"), False),
    "nothing": (pod(), False),
    "one of two volumes": (pod("/var/log", PATH), True),
    "the root, and it says that it uses this model": (pod(ROOT, model="llama"), True),
    "the root, and it says that it uses another model": (pod(ROOT, model="other"), False),
    "the root, and it says that it uses none": (pod(ROOT, model=""), False),
    "the path, whatever it says": (pod(PATH, model="other"), True),
    "nothing, and it names the model": (pod(model="llama"), True),
}


@pytest.mark.parametrize("case", MOUNTED)
def test_a_pod_that_mounts(case: str) -> None:
    view, expected = MOUNTED[case]
    assert uses(view) is expected


NAMED = {
    "a cluster's model, by its name": (CLUSTER, "llama", "serving", True),
    "a cluster's model, as if it had a namespace": (CLUSTER, "serving/llama", "serving", False),
    "a model of its own namespace, by its name": (TEAM, "llama", "team", True),
    "a model of its own namespace, by both": (TEAM, "team/llama", "team", True),
    "a model of another namespace, which its word alone does not hold": (TEAM, "team/llama", "serving", False),
    "another model": (TEAM, "team/other", "team", False),
}


@pytest.mark.parametrize("case", NAMED)
def test_a_pod_that_names(case: str) -> None:
    ref, annotation, namespace, expected = NAMED[case]
    assert uses(pod(model=annotation, namespace=namespace), ref) is expected


@pytest.mark.parametrize(("since", "started", "counts"), [(99, True, True), (100, True, True), (101, True, False)])
def test_only_pods_count_that_may_have_started_before(since: int, started: bool, counts: bool) -> None:
    assert uses(pod(PATH, since=since, started=started), before=100.4) is counts


def test_a_pod_that_the_kubelet_has_not_begun_with_may_have_started_at_any_time() -> None:
    assert uses(pod(PATH, since=5000, started=False), before=100.0)


def test_a_model_that_is_unknown_is_used_by_its_path_all_the_same() -> None:
    assert uses(pod(PATH), None)
    assert told_use([pod(PATH)], None).users[0].name == ""


def test_a_pod_that_has_all_of_a_root_for_a_named_model_uses_any_of_which_the_name_is_lost() -> None:
    """As after somebody has removed the finalizer: its files go when the Pod does, or its time is over."""
    assert uses(pod("/models", model="llama"), None)
    assert not uses(pod("/data", model="llama"), None)


def test_pods_of_other_namespaces_are_counted_and_not_named_to_those_who_see_a_namespaced_model() -> None:
    told = told_use([pod(PATH, namespace="team"), pod(PATH, namespace="other", since=200)], TEAM)
    assert told.pods == 2
    assert [(each.namespace, each.name) for each in told.users] == [("team", "server"), ("", "")]


def test_pods_are_counted_and_not_named_to_those_who_see_a_cluster_scoped_model_where_the_operator_says_so() -> None:
    found = [pod(PATH, namespace="team"), pod(PATH, namespace="other", since=200)]
    told, summed = told_use(found, CLUSTER, name_all=False), summary(found, CLUSTER, name_all=False)
    assert summed is not None
    assert (told.pods, summed.pods) == (2, 2)
    assert {each.name for each in told.users} == {each.pod.name for each in summed.users} == {""}
    own = told_use(found, TEAM, name_all=False)
    assert [(each.namespace, each.name) for each in own.users] == [("team", "server"), ("", "")]


def test_of_many_pods_the_first_are_named() -> None:
    told = told_use([pod(PATH, name=f"server-{number}", since=number) for number in range(20)], CLUSTER)
    assert told.pods == 20
    assert [each.name for each in told.users] == [f"server-{number}" for number in range(8)]


def manifest(**more: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "server",
            "namespace": more.get("namespace", "serving"),
            "uid": "u",
            "resourceVersion": "1",
            "creationTimestamp": "2026-11-28T09:00:00Z",
            "annotations": more.get("annotations"),
            "managedFields": ["much"],
        },
        "spec": {"nodeName": more.get("node", "n1"), "volumes": more.get("volumes"), "containers": ["much"]},
        "status": {"phase": more.get("phase", "Running"), "startTime": more.get("start", "2026-11-28T09:00:05Z")},
    }


VOLUMES = [{"hostPath": {"path": "/models//meta/llama/"}}, {"emptyDir": {}}]


def test_of_a_pod_no_more_is_kept_than_is_judged() -> None:
    kept = project_pod(manifest(volumes=VOLUMES), "ome")
    assert kept is not None
    assert set(kept["metadata"]) == {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"}
    view = view_pod(kept)
    assert (view.paths, view.since, view.started) == ((PATH,), 1795856405, True)


def test_nobody_makes_much_be_kept_of_a_pod() -> None:
    deep = [{"hostPath": {"path": f"/models/{number}" + "/d" * 100_000}} for number in range(200)]
    kept = project_pod(manifest(volumes=deep, annotations={MODEL_ANNOTATION: "m" * 200_000}), "ome")
    assert kept is not None
    view = view_pod(kept)
    assert len(view.paths) <= 64
    assert max(map(len, view.paths)) <= 1024
    # It names no model, and so it has none by a volume above.
    assert view.model == ""


def test_a_pod_that_mounts_a_directory_deep_in_a_model_uses_it() -> None:
    deep = [{"hostPath": {"path": PATH + "/d" * 2000}}]
    kept = project_pod(manifest(volumes=deep), "ome")
    assert kept is not None
    assert uses(view_pod(kept))


def test_the_index_of_deep_paths_grows_with_their_length_and_not_with_its_square() -> None:
    index = UseIndex()
    tracemalloc.start()
    try:
        for number in range(50):
            deep = f"/models/{number}" + "/d" * 500
            index.model_changed(f"u{number}", ModelRef(name=f"m{number}", uid=f"u{number}"), deep)
            index.pod_changed(("serving", f"p{number}"), pod(f"{deep}/e", name=f"p{number}"))
        assert tracemalloc.get_traced_memory()[0] < 2 << 20
    finally:
        tracemalloc.stop()


async def test_a_node_that_asks_much_leaves_others_their_turns() -> None:
    watch = PodWatch("ome", True, lambda uid: None, Health())
    for number in range(10):
        watch.index.pod_changed(("serving", str(number)), pod(PATH, name=str(number)))
    questions = [fetch_pb2.UseQuestion(model_uid="c", root=ROOT, paths=[PATH])] * 256
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    working = asyncio.create_task(work())
    told = await watch.uses("n1", questions, lambda uid: CLUSTER)
    working.cancel()
    assert [each.pods for each in told] == [10] * 256
    assert turns >= 200


@pytest.mark.parametrize("view", [pod(model="llama", node="", started=False), pod(PATH, node="", started=False)])
async def test_a_pod_for_which_no_node_is_chosen_yet_holds_the_model_wherever_it_stands(view: PodView) -> None:
    """Between its scheduling gate and its node, a model could otherwise leave the very nodes that the Pod may go to."""
    watch = PodWatch("ome", True, lambda uid: None, Health())
    watch.index.model_changed("c", CLUSTER, PATH)
    watch.index.pod_changed(view.key, view)
    now = fetch_pb2.UseQuestion(model_uid="c", root=ROOT, paths=[PATH])
    past = fetch_pb2.UseQuestion(model_uid="c", root=ROOT, paths=[PATH])
    past.before.FromSeconds(view.since + 100)
    other = fetch_pb2.UseQuestion(model_uid="t", root=ROOT, paths=["/models/other"])

    async def answers(node: str) -> list[int]:
        told = await watch.uses(node, [now, past, other], {"c": CLUSTER}.get, lambda node, uid: node == "has-it")
        return [each.pods for each in told]

    assert await answers("has-it") == [1, 0, 0]
    assert await answers("has-it-not") == [0, 0, 0]
    watch.index.pod_changed(view.key, pod(PATH, node="n1"))
    assert await answers("has-it") == [0, 0, 0]
    assert await answers("n1") == [1, 1, 0]


async def test_nobody_has_nodes_told_of_thousands_of_pods_that_get_no_node() -> None:
    watch = PodWatch("ome", True, lambda uid: None, Health())
    watch.index.model_changed("c", CLUSTER, PATH)
    for number in range(3000):
        view = pod(model="llama", node="", name=str(number), started=False)
        watch.index.pod_changed(view.key, view)
    [told] = await watch.uses("n1", [fetch_pb2.UseQuestion(model_uid="c")], {"c": CLUSTER}.get, lambda node, uid: True)
    assert 1 <= told.pods <= 100
    assert len(watch.index.waiting_for("c")) == 3000


def test_a_pod_is_kept_while_it_waits_for_a_node() -> None:
    kept = project_pod(manifest(volumes=VOLUMES, node=None, phase="Pending", start=None), "ome")
    assert kept is not None
    assert (view_pod(kept).node, view_pod(kept).started) == ("", False)


IRRELEVANT = {
    "without volumes of the node": manifest(volumes=[{"emptyDir": {}}]),
    "without any volumes": manifest(),
    "of OME itself": manifest(volumes=VOLUMES, namespace="ome"),
    "that has ended": manifest(volumes=VOLUMES, phase="Succeeded"),
    "that has failed": manifest(volumes=VOLUMES, phase="Failed"),
}


@pytest.mark.parametrize("case", IRRELEVANT)
def test_nothing_is_kept_of_a_pod(case: str) -> None:
    assert project_pod(IRRELEVANT[case], "ome") is None


def test_a_pod_without_a_start_was_created() -> None:
    kept = project_pod(manifest(volumes=VOLUMES, start=None), "ome")
    assert kept is not None
    assert not view_pod(kept).started


def test_the_summary_of_a_model_counts_nodes_and_pods() -> None:
    index = UseIndex()
    index.model_changed("c", CLUSTER, PATH)
    assert summary(index.users_of("c"), CLUSTER) is None
    for number in range(3):
        view = pod(PATH, name=f"server-{number}", node=f"n{number // 2}")
        assert index.pod_changed(view.key, view) == {"c"}
    told = summary(index.users_of("c"), CLUSTER)
    assert told is not None
    assert (told.nodes, told.pods) == (2, 3)
    assert [each.node for each in told.users] == ["n0", "n0", "n1"]


def test_a_change_that_says_nothing_new_concerns_no_model() -> None:
    index = UseIndex()
    index.model_changed("c", CLUSTER, PATH)
    index.pod_changed(("serving", "server"), pod(PATH))
    assert index.pod_changed(("serving", "server"), pod(PATH)) == set()
    assert index.pod_changed(("serving", "server"), pod(PATH, since=200)) == {"c"}
    assert index.pod_changed(("serving", "server"), None) == {"c"}


PATHS = st.sampled_from(["", "/", "/models", "/models/a", "/models/a/b", "/models/b", "/data/a"])
PODS = st.builds(
    PodView,
    namespace=st.sampled_from(["team", "other"]),
    name=st.sampled_from(["one", "two", "three"]),
    node=st.sampled_from(["n1", "n2", ""]),
    paths=st.tuples(PATHS).map(lambda paths: tuple(filter(None, paths))),
    model=st.sampled_from([None, "", "a", "team/a", "b"]),
    since=st.integers(0, 3),
    started=st.booleans(),
)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("pod"), PODS),
        st.tuples(st.just("gone"), PODS),
        st.tuples(st.just("model"), st.sampled_from("abc"), st.sampled_from(["", "team"]), PATHS),
        st.tuples(st.just("model gone"), st.sampled_from("abc")),
    ),
    max_size=15,
)


@settings(max_examples=200)
@given(CHANGES)
def test_the_index_says_after_any_changes_what_a_look_at_everything_would(changes: list[tuple[Any, ...]]) -> None:
    index = UseIndex()
    pods: dict[tuple[str, str], PodView] = {}
    models: dict[str, tuple[ModelRef, str]] = {}
    for change in changes:
        before = {uid: sorted(index.users_of(uid), key=lambda each: each.key) for uid in models}
        match change:
            case ("pod", view):
                pods[view.key] = view
                concerned = index.pod_changed(view.key, view)
            case ("gone", view):
                pods.pop(view.key, None)
                concerned = index.pod_changed(view.key, None)
            case ("model", uid, namespace, path):
                path = "" if path == "/" else path
                models[uid] = ModelRef(namespace=namespace, name=uid, uid=uid), path
                index.model_changed(uid, *models[uid])
                concerned = {uid}
            case (_, uid):
                models.pop(uid, None)
                index.model_changed(uid, None, "")
                concerned = {uid}
        for uid, (ref, path) in models.items():
            # Any directory may be the model root.
            expected = [
                each
                for each in sorted(pods.values(), key=lambda each: each.key)
                if any(users([each], ref, root, [path] if path else [], None) for root in (*each.paths, "/models"))
            ]
            found = sorted(index.users_of(uid), key=lambda each: each.key)
            assert found == expected
            waiting = sorted(index.waiting_for(uid), key=lambda each: each.key)
            assert waiting == [each for each in expected if not each.node]
            if uid not in concerned:
                visible = [(each.key, each.node, each.since) for each in found]
                assert visible == [(each.key, each.node, each.since) for each in before[uid]]
        for node in ("n1", "n2", ""):
            assert {each.key for each in index.pods_on(node)} == {
                key for key, each in pods.items() if each.node == node
            }

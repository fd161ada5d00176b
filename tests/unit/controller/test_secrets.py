"""Where the Secret of a model may be, and when a change of it is acted upon."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from libs.artifact.errors import InvalidValue
from libs.artifact.specification import FINALIZER, planning_digest
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller import listings, planning
from services.controller.listings import Asked
from services.controller.planning import Held, NodeView, Observed, Plan, Rules
from services.controller.secret_watch import SecretWatch
from services.controller.specification import ModelSource, SecretRef, SecretRules, read_model, source_of, trust_scopes

NOW = 1_800_000_000.0
SECRETS = SecretRules(namespaces=("model-secrets",), reserved=("ome-nats-issuer",))
RULES = Rules("ome", 300, 300, 600, secrets=SECRETS)
DIGEST = "sha256:" + "a" * 64
NODES = {name: NodeView(name, {}, True, None) for name in ("n1", "n2")}
PLACE = ("ome", "hf")


def model(kind: str = "ClusterBaseModel", generation: int = 1, storage_key: str = "hf", **parameters: str) -> Any:
    namespace = {"namespace": "team-a"} if kind == "BaseModel" else {}
    metadata = {"name": "m", "uid": "u", "generation": generation, "finalizers": [FINALIZER], **namespace}
    storage: dict[str, Any] = {"storageUri": "hf://org/private", "parameters": parameters}
    if storage_key:
        storage["storageKey"] = storage_key
    return {"kind": kind, "metadata": metadata, "spec": {"storage": storage}}


def source(item: Any, namespace: str = "ome") -> ModelSource:
    found = source_of(read_model(item), namespace, SECRETS)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (model(), ("ome", "hf", "token")),
        (model("FineTunedWeight", secretKey="access"), ("ome", "hf", "access")),
        (model("BaseModel"), ("team-a", "hf", "token")),
        (model(secretNamespace="model-secrets"), ("model-secrets", "hf", "token")),
        (model(secretNamespace="ome"), ("ome", "hf", "token")),
        (model("BaseModel", secretNamespace="team-a"), ("team-a", "hf", "token")),
        (model("BaseModel", storage_key="ome-nats-issuer"), ("team-a", "ome-nats-issuer", "token")),
    ],
)
def test_a_secret_is_looked_for_where_scope_and_parameters_say(item: Any, expected: tuple[str, ...]) -> None:
    secret = source(item).secret
    assert secret is not None
    assert (secret.namespace, secret.name, secret.key) == expected


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (
            model(secretNamespace="team-a"),
            "into 'ome' or 'model-secrets', or ask the administrator to add 'team-a'",
        ),
        (model("FineTunedWeight", secretNamespace="team-a"), "where OME reads no Secrets of models"),
        (model("BaseModel", secretNamespace="model-secrets"), "remove the parameter and put the Secret into 'team-a'"),
        (model("BaseModel", secretNamespace="ome"), "a BaseModel uses Secrets of its own namespace only"),
        (model(storage_key="ome-nats-issuer"), "is a Secret of OME itself"),
        (model(storage_key="ome-nats-issuer", secretNamespace="ome"), "is a Secret of OME itself"),
    ],
)
def test_a_secret_elsewhere_is_refused_with_what_to_write_instead(item: Any, words: str) -> None:
    with pytest.raises(InvalidValue, match=words) as caught:
        source(item)
    assert caught.value.reason == "InvalidParameter"


def test_a_base_model_in_the_operators_namespace_may_not_use_the_operators_secrets_either() -> None:
    item = model("BaseModel", storage_key="ome-nats-issuer")
    with pytest.raises(InvalidValue, match="OME itself"):
        source(item, namespace="team-a")


def test_no_parameter_about_credentials_leaves_the_controller() -> None:
    item = model(token="canary", secretKey="access", secretNamespace="model-secrets", revision="v1")
    found = source(item)
    assert dict(found.source.parameters) == {"revision": "v1"}
    assert b"canary" not in found.source.SerializeToString()


def test_a_token_in_the_parameters_is_named_by_no_digest() -> None:
    one, other = model(storage_key="", token="one"), model(storage_key="", token="other")
    assert source(one) == source(other)
    assert planning_digest(one["spec"], {}) == planning_digest(other["spec"], {})
    assert one["spec"]["storage"]["parameters"] == {"token": "one"}, "the object itself is not changed"
    assert source(one).token_version != source(model(storage_key="", generation=2, token="one")).token_version


@pytest.mark.parametrize(
    "parameters",
    [{"AWS_SECRET_ACCESS_KEY": "canary"}, {"passPhrase": "canary"}, {"endpoint": "https://me:canary@mirror"}],
    ids=lambda parameters: next(iter(parameters)),
)
def test_parameters_that_hold_credentials_are_refused_without_repeating_them(parameters: dict[str, str]) -> None:
    with pytest.raises(InvalidValue, match="put them into a Secret") as caught:
        source(model(**parameters))  # type: ignore[arg-type]
    assert "canary" not in caught.value.message


def test_a_token_of_modelscope_is_one_key_like_that_of_the_hub() -> None:
    item = model(secretKey="access")
    item["spec"]["storage"]["storageUri"] = "ms://org/private"
    assert source(item).secret == SecretRef("ome", "hf", "access")
    assert source(item).needs_listing


def test_a_misspelt_parameter_is_refused_by_the_object_itself() -> None:
    with pytest.raises(InvalidValue, match=r"parameters.revison does not exist for hf://: write 'revision'") as caught:
        source(model(revison="v1"))
    assert caught.value.reason == "InvalidParameter"


def test_versions_differ_by_place_key_and_state() -> None:
    refs = [SecretRef(*place) for place in (("a", "b", "c"), ("a", "b", "d"), ("a", "c", "c"), ("b", "b", "c"))]
    versions = {ref.version(state) for ref in refs for state in ("", "uid/1", "uid/2")}
    assert len(versions) == 12
    assert "" not in versions


def own_scope(item: Any, version: str = "v1") -> str:
    return trust_scopes(read_model(item), source(item), version)[0]


def at(uri: str, item: Any) -> Any:
    return {**item, "spec": {"storage": {**item["spec"]["storage"], "storageUri": uri}}}


def public() -> Any:
    return model("BaseModel", storage_key="")


USER = model("BaseModel", auth_type="UserPrincipal")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (own_scope(model("BaseModel")), own_scope(at("hf://other/repository@v2", model("BaseModel")))),
        (own_scope(model("BaseModel")), own_scope(model("BaseModel", revision="v1", allowPatterns="*.json"))),
        (own_scope(public(), ""), own_scope(at("hf://other/repository", public()), "")),
    ],
)
def test_models_of_one_source_host_and_secret_share_a_scope(one: str, other: str) -> None:
    assert one == other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (own_scope(model("BaseModel")), own_scope(model("BaseModel", endpoint="https://example.org"))),
        (own_scope(model("BaseModel")), own_scope(model("BaseModel"), "v2")),
        (own_scope(model("BaseModel")), own_scope(public(), "")),
        (own_scope(public(), ""), own_scope(at("ms://org/model", public()), "")),
        (own_scope(at("s3://one/m", model("BaseModel"))), own_scope(at("s3://other/m", model("BaseModel")))),
        (own_scope(at("oci://n/a/b/c/o/m", USER)), own_scope(at("oci://n/b/b/c/o/m", USER))),
        (own_scope(at("vendor://a/m/m", public()), ""), own_scope(at("vendor://b/m/m", public()), "")),
        # It is not known which Secret the source was listed with.
        (own_scope(model("BaseModel"), ""), own_scope(public(), "")),
    ],
)
def test_another_host_bucket_or_secret_is_another_scope(one: str, other: str) -> None:
    assert one != other


def test_models_in_no_namespace_share_one_more_scope() -> None:
    one, other = (trust_scopes(read_model(each), source(each), "v1") for each in (model(), model("BaseModel")))
    assert one == (other[0], "cluster")


def observe(item: Any, **changes: Any) -> Observed:
    known = Observed("u", read_model(item), NODES, held={}, states={}, resolutions={}, asked={}, plan=None)
    return replace(known, **changes)


def failed_listing(item: Any, state: str, reason: "model_pb2.Reason", asked_with: str = "") -> Observed:
    """A listing that has just failed with credentials in a state."""
    found = source(item)
    version = found.secret.version(state) if found.secret else found.token_version
    resolution = fetch_pb2.Resolution(attempt=1, problem=fetch_pb2.Problem(reason=reason), secret_version=version)
    resolution.resolved_at.FromMilliseconds(int(NOW * 1000))
    listed, asked = {found.key: resolution}, {found.key: Asked(1, NOW, asked_with)}
    return observe(item, resolutions=listed, heard={found.key: NOW}, asked=asked)


def decide(observed: Observed) -> Plan:
    return planning.plan(observed, RULES, NOW)


def asks(decided: Plan) -> list[listings.AskForListing]:
    return [action for action in decided.actions if isinstance(action, listings.AskForListing)]


REASONS = sorted(listings.CREDENTIAL_REASONS)


@pytest.mark.parametrize("reason", REASONS, ids=model_pb2.Reason.Name)
def test_a_failed_listing_awaits_its_secret_and_is_asked_for_at_once_when_that_changes(
    reason: "model_pb2.Reason",
) -> None:
    observed = failed_listing(model(), "uid/1", reason)
    assert decide(observed).awaited_secret == SecretRef("ome", "hf", "token")
    assert asks(decide(observed)) == []
    assert asks(decide(replace(observed, secret_states={PLACE: "uid/1"}))) == []
    [ask] = asks(decide(replace(observed, secret_states={PLACE: "uid/2"})))
    assert ask.task.attempt == 2
    assert ask.secret_version == SecretRef("ome", "hf", "token").version("uid/2")


@pytest.mark.parametrize("reason", [model_pb2.REASON_INVALID_LISTING, model_pb2.REASON_INTERNAL])
def test_a_failure_that_no_credentials_can_end_awaits_none(reason: "model_pb2.Reason") -> None:
    observed = failed_listing(model(), "uid/1", reason)
    assert decide(observed).awaited_secret is None
    assert asks(decide(replace(observed, secret_states={PLACE: "uid/2"}))) == []


def test_a_public_source_awaits_no_secret() -> None:
    assert decide(failed_listing(model(storage_key=""), "", model_pb2.REASON_NOT_FOUND)).awaited_secret is None


def test_what_is_known_of_a_secret_may_be_old_and_leads_to_one_attempt_only() -> None:
    old = SecretRef("ome", "hf", "token").version("uid/1")
    observed = failed_listing(model(), "uid/2", model_pb2.REASON_FORBIDDEN, asked_with=old)
    assert asks(decide(replace(observed, secret_states={PLACE: "uid/1"}))) == []


def test_a_listing_that_was_asked_for_because_of_a_change_is_not_asked_for_twice() -> None:
    observed = replace(failed_listing(model(), "uid/1", model_pb2.REASON_FORBIDDEN), secret_states={PLACE: "uid/2"})
    [ask] = asks(decide(observed))
    asked = {ask.task.source_key: Asked(ask.task.attempt, NOW, ask.secret_version)}
    assert asks(decide(replace(observed, asked=asked))) == []


def test_an_edit_of_a_token_in_the_parameters_is_a_change() -> None:
    observed = failed_listing(model(storage_key="", token="one"), "", model_pb2.REASON_FORBIDDEN)
    edited = replace(observed, model=read_model(model(storage_key="", generation=2, token="two")))
    assert asks(decide(observed)) == []
    assert len(asks(decide(edited))) == 1


def held_by_two(item: Any, second: Callable[[fetch_pb2.NodeModelState], None]) -> Observed:
    """Two nodes have been told to hold a model; the first is Ready, the second says something else."""
    found = source(item)
    version = SecretRef("ome", "hf", "token").version("uid/1")
    resolution = fetch_pb2.Resolution(attempt=1, artifact=model_pb2.Artifact(digest=DIGEST), secret_version=version)
    observed = observe(item, resolutions={found.key: resolution})
    assigned = [action for action in decide(observed).actions if isinstance(action, planning.Assign)]
    assert {action.assignment.secret_version for action in assigned} == {version}
    failed = fetch_pb2.NodeModelState(phase=model_pb2.NODE_PHASE_FAILED)
    second(failed)
    return replace(
        observed,
        held={action.node: Held(1, action.assignment) for action in assigned},
        states={"n1": fetch_pb2.NodeModelState(phase=model_pb2.NODE_PHASE_READY), "n2": failed},
    )


def fails(reason: "model_pb2.Reason") -> Callable[[fetch_pb2.NodeModelState], None]:
    def say(state: fetch_pb2.NodeModelState) -> None:
        state.problem.reason = reason

    return say


def assigns(decided: Plan) -> dict[str, fetch_pb2.Assignment]:
    return {action.node: action.assignment for action in decided.actions if isinstance(action, planning.Assign)}


def test_only_nodes_that_fail_are_told_of_a_change_and_only_once() -> None:
    observed = held_by_two(model(), fails(model_pb2.REASON_FORBIDDEN))
    assert decide(observed).awaited_secret == SecretRef("ome", "hf", "token")
    assert assigns(decide(replace(observed, secret_states={PLACE: "uid/1"}))) == {}
    rotated = replace(observed, secret_states={PLACE: "uid/2"})
    told = assigns(decide(rotated))
    assert set(told) == {"n2"}
    before = observed.held["n2"].assignment
    assert told["n2"].secret_version != before.secret_version
    assert told["n2"].content_digest == before.content_digest
    again = replace(rotated, held={**rotated.held, "n2": Held(2, told["n2"])})
    assert assigns(decide(again)) == {}


def test_an_edit_that_names_another_key_is_told_to_the_nodes_that_fail() -> None:
    observed = held_by_two(model(), fails(model_pb2.REASON_FORBIDDEN))
    edited = model(generation=2, secretKey="better")
    [resolution] = observed.resolutions.values()
    listed = {source(edited).key: resolution}
    known = replace(observed, model=read_model(edited), resolutions=listed, secret_states={PLACE: "uid/1"})
    assert set(assigns(decide(known))) == {"n2"}


@pytest.mark.parametrize("reason", [model_pb2.REASON_INSUFFICIENT_DISK, model_pb2.REASON_PATH_OCCUPIED])
def test_a_node_that_fails_for_another_reason_awaits_no_secret(reason: "model_pb2.Reason") -> None:
    observed = held_by_two(model(), fails(reason))
    assert decide(observed).awaited_secret is None
    assert assigns(decide(replace(observed, secret_states={PLACE: "uid/2"}))) == {}


async def test_a_watch_forgets_a_secret_that_nobody_awaits_any_more() -> None:
    watch = SecretWatch(5.0, lambda uid: None)
    secret = SecretRef("ome", "hf", "token")
    watch.follow("u", secret)
    watch.follow("v", secret)
    watch.states[PLACE] = "uid/1"
    watch.follow("u", None)
    assert (watch.follows("u"), watch.follows("v"), watch.states) == (False, True, {PLACE: "uid/1"})
    watch.clear()
    assert (watch.follows("v"), watch.states) == (False, {})

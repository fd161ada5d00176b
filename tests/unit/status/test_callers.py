"""Which tokens are worth a review, and which right a call needs."""

import base64
import json
from typing import Any

import pytest

from ome.model.v1.model_pb2 import (
    MODEL_KIND_BASE_MODEL,
    MODEL_KIND_CLUSTER_BASE_MODEL,
    MODEL_KIND_FINE_TUNED_WEIGHT,
    MODEL_KIND_UNSPECIFIED,
    ModelKind,
)
from services.status.access import Scope, Viewer, named_scope
from services.status.callers import Caller, TooMany, address_of, bearer_token, why_not_reviewed

NOW = 1_800_000_000.0


def token(claims: Any, parts: int = 3) -> str:
    encoded = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return ".".join(["e30", encoded, "c2ln"][:parts])


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"aud": ["ome-status"], "exp": NOW}, ""),
        ({"aud": ["https://kubernetes.default.svc", "ome-status"], "exp": NOW}, ""),
        ({"aud": "ome-status", "exp": NOW}, ""),
        ({"aud": ["ome-status"], "exp": NOW - 299}, ""),
        ({"aud": ["ome-status"], "exp": NOW - 301}, "the token has expired"),
        ({"aud": ["https://kubernetes.default.svc"], "exp": NOW}, "the token is not meant for ome-status"),
        ({"aud": "ome-status-x", "exp": NOW}, "the token is not meant for ome-status"),
        ({"aud": 7, "exp": NOW}, "the token is none of a ServiceAccount"),
        ({"aud": ["ome-status"], "exp": "soon"}, "the token is none of a ServiceAccount"),
        ({"aud": ["ome-status"]}, "the token is none of a ServiceAccount"),
        (["aud", "exp"], "the token is none of a ServiceAccount"),
        ("text", "the token is none of a ServiceAccount"),
    ],
    ids=str,
)
def test_a_token_is_reviewed_if_it_may_be_valid(claims: Any, why: str) -> None:
    assert why_not_reviewed(token(claims), "ome-status", NOW) == why


@pytest.mark.parametrize(
    "text", ["x", "..", "a.b", "a.b.c", "a.ü.c", token({}, 2), "." * 100, "a." + "[" * 9000 + ".c"]
)
def test_junk_is_not_reviewed(text: str) -> None:
    assert why_not_reviewed(text, "ome-status", NOW) == "the token is none of a ServiceAccount"


def test_nothing_and_too_much_are_not_reviewed() -> None:
    assert why_not_reviewed("", "", NOW) == "the call shows no token"
    assert why_not_reviewed("x" * (16 << 10) + "x", "", NOW) == "the token is too long"
    # Tokens of an identity provider may have any form.
    assert why_not_reviewed("sha256~opaque", "", NOW) == ""


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ([("authorization", "Bearer abc")], "abc"),
        ([("authorization", "bearer  abc ")], "abc"),
        ([("authorization", "Basic abc")], ""),
        ([("authorization", "abc")], ""),
        ([("authorization", b"Bearer abc")], ""),
        ([("authorization", "Bearer a"), ("authorization", "Bearer b")], ""),
        ([("other", "Bearer abc")], ""),
    ],
    ids=str,
)
def test_the_token_is_in_the_metadata(metadata: list[tuple[str, str | bytes]], found: str) -> None:
    assert bearer_token(metadata) == found


def test_the_address_of_a_peer_has_no_port() -> None:
    assert address_of("ipv4:10.0.0.1:50312") == "ipv4:10.0.0.1"
    assert address_of("ipv6:%5B::1%5D:50312") == "ipv6:%5B::1%5D"


@pytest.mark.parametrize(
    ("kind", "namespace", "scope"),
    [
        (MODEL_KIND_UNSPECIFIED, "", None),
        (MODEL_KIND_BASE_MODEL, "", None),
        (MODEL_KIND_BASE_MODEL, "team-a", Scope("ome.io", "basemodels", "team-a")),
        (MODEL_KIND_UNSPECIFIED, "team-a", Scope("ome.io", "basemodels", "team-a")),
        (MODEL_KIND_CLUSTER_BASE_MODEL, "", Scope("ome.io", "clusterbasemodels")),
        (MODEL_KIND_FINE_TUNED_WEIGHT, "", Scope("ome.io", "finetunedweights")),
    ],
)
def test_a_request_names_a_scope_or_leaves_it_open(kind: ModelKind, namespace: str, scope: Scope | None) -> None:
    assert named_scope(kind, namespace) == scope


class Rights:
    """Access as a table has it; counts what was asked."""

    def __init__(self, *scopes: Scope) -> None:
        self.scopes = scopes
        self.asked = 0

    async def permits(self, caller: Caller, verb: str, scope: Scope, name: str = "") -> bool:
        self.asked += 1
        return scope in self.scopes


def scopes(number: int) -> list[Scope]:
    return [Scope("ome.io", "basemodels", f"team-{each}") for each in range(number)]


async def test_a_right_in_the_whole_cluster_covers_every_namespace_at_once() -> None:
    rights = Rights(Scope("ome.io", "basemodels"))
    permitted = await Viewer(rights, Caller("me"), "list").permitted(scopes(1000))
    assert (len(permitted), rights.asked) == (1000, 1)


async def test_rights_in_namespaces_narrow_what_is_seen() -> None:
    mine = scopes(10)[3]
    assert await Viewer(Rights(mine), Caller("me"), "list").permitted(scopes(10)) == {mine}


async def test_who_has_no_right_in_the_cluster_names_one_of_many_namespaces() -> None:
    rights = Rights()
    with pytest.raises(TooMany, match="name one"):
        await Viewer(rights, Caller("me"), "list").permitted(scopes(257))
    assert rights.asked == 1

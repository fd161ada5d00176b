"""What the controller remembers of a listing that it has asked for."""

from pathlib import Path

import pytest

from libs.chassis.health import Health
from ome.fetch.v1 import fetch_pb2
from services.controller.observations import Observations
from services.controller.settings import Settings

SETTINGS = Settings(
    namespace="ome",
    pod_name="controller-1",
    nats_url="nats://127.0.0.1:4222",
    nats_password_file=Path("password"),
    parser_image="ome/parser",
)
STABLE, NEXT = (fetch_pb2.ResolveTask(source_key=f"u.{name}", attempt=1) for name in ("stable", "next"))


@pytest.fixture
def observations() -> Observations:
    return Observations(SETTINGS, Health(), lambda _: None, lambda *_: None, lambda _: None)


def test_a_listing_that_is_forgotten_is_asked_for_anew_when_the_model_comes_back_to_its_source(
    observations: Observations,
) -> None:
    observations.listing_asked("u", STABLE, "")
    assert set(observations.observed_of("u").asked) == {"u.stable"}
    observations.listing_forgotten("u", "u.stable")
    assert not observations.observed_of("u").asked


def test_forgetting_the_listing_before_leaves_the_question_about_the_next(observations: Observations) -> None:
    observations.listing_asked("u", NEXT, "")
    observations.listing_forgotten("u", "u.stable")
    assert set(observations.observed_of("u").asked) == {"u.next"}

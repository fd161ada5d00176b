"""The charts grant what the code uses in Kubernetes, and no verb more."""

import pytest

from tests.support.programs import render
from tools.audit import permissions

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("values", [(), ("--set", "ome-controller.readSecretsIn={team-a}")])
def test_every_right_is_used_and_every_use_is_granted(values: tuple[str, ...]) -> None:
    objects = render("ome", "--set", "global.imageRegistry=registry.example.com", *values)

    assert permissions.check_charts(objects) == []

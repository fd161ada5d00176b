"""An image is ours, or it is named by its digest."""

from typing import Any

import pytest

from tools.audit import pins
from tools.images import debian

DIGEST = f"sha256:{'0' * 64}"


def pod(image: str) -> dict[str, Any]:
    return {"kind": "Pod", "metadata": {"name": "example"}, "spec": {"containers": [{"image": image}]}}


@pytest.mark.parametrize("image", ["registry/ome/parser:0.1.0", f"nats@{DIGEST}", f"docker.io/nats:2.15.2@{DIGEST}"])
def test_an_image_of_ours_or_with_a_digest_is_no_finding(image: str) -> None:
    assert pins.check_charts([pod(image)], "registry/") == []


@pytest.mark.parametrize(
    "image", ["nats:2.15.2", "nats", "elsewhere/ome/parser:0.1.0", "registry/ome/unknown:1", "nats@sha256:abc"]
)
def test_an_image_by_tag_is_a_finding(image: str) -> None:
    [found] = pins.check_charts([pod(image)], "registry/")

    assert found.subject == "Pod example"
    assert image in found.message


def test_a_dockerfile_names_its_base_by_digest_and_its_stages_by_name() -> None:
    stages = "FROM {} AS one\nFROM one AS two\nFROM {}\nCOPY --from=two /app /app\n"

    assert pins.check_dockerfile("Dockerfile", stages.format(f"python@{DIGEST}", f"python@{DIGEST}")) == []
    [found] = pins.check_dockerfile("Dockerfile", stages.format("python:3.11", "python:3.11"))
    assert found.message.startswith("python:3.11: a tag can be moved")


def test_each_package_of_debian_has_a_line_of_the_lock() -> None:
    lines = [f"{name} 1 debian/pool/{name}.deb 1 {'0' * 64}" for name in debian.PACKAGES]

    assert pins.check_debian("debian.lock", "\n".join(lines)) == []
    [found] = pins.check_debian("debian.lock", "\n".join(lines[1:]))
    assert debian.PACKAGES[0] in found.message

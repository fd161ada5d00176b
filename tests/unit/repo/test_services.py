"""Each service comes with everything it is delivered as."""

import re

import pytest

from tests.unit.repo.checkout import ROOT

SERVICES = sorted(path.parent.name for path in (ROOT / "services").glob("*/__main__.py"))


def test_the_four_services_are_there() -> None:
    assert SERVICES == ["controller", "fetcher", "parser", "status"]


@pytest.mark.parametrize("service", SERVICES)
def test_service_has_a_chart_an_image_and_dependency_rules(service: str) -> None:
    assert (ROOT / "deploy" / "helm" / service / "Chart.yaml").is_file()
    dockerfile = (ROOT / "deploy" / "images" / service / "Dockerfile").read_text()
    assert f'ENTRYPOINT ["python", "-m", "services.{service}"]' in dockerfile
    assert f'"{service}"' in (ROOT / "deploy" / "images" / "BUILD").read_text()
    assert re.search(rf'^service\(\s*"{service}"', (ROOT / "services" / service / "BUILD").read_text(), re.MULTILINE)


def test_executables_leave_out_every_stub_package() -> None:
    macros = (ROOT / "tools" / "build" / "macros.pants").read_text()
    left_out = set(re.findall(r'"(types-[a-z-]+)"', macros))
    asked_for = set(re.findall(r"^types-\S+", (ROOT / "3rdparty" / "python" / "stubs.in").read_text(), re.MULTILINE))
    assert left_out == asked_for

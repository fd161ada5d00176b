"""The variables that a chart sets are the settings that its service reads, both ways."""

import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from libs.artifact.version import VERSION
from libs.chassis.settings import load_settings, variable_name
from tests.support.programs import CHARTS, render

pytestmark = pytest.mark.cluster

# Each process by the name of its container: the chart that runs it, and the module with its settings.
PROCESSES = {
    "controller": ("controller", "services.controller.settings"),
    "gateway": ("controller", "services.controller.gateway.settings"),
    "fetcher": ("fetcher", "services.fetcher.settings"),
    "resolver": ("fetcher", "services.fetcher.resolver"),
    "parser": ("parser", "services.parser.settings"),
    "status": ("status", "services.status.settings"),
}
SERVICES = tuple(PROCESSES)
# What the kubelet gives to every container.
_FROM_KUBELET = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
# Every value whose default leaves a variable out.
_OPTIONS = {
    "controller": ["nats.caSecret=ca", "hfEndpoint=http://mirror", "modelscopeEndpoint=http://mirror"],
    "gateway": ["nats.caSecret=ca"],
    "resolver": [
        "nats.caSecret=ca",
        "hfEndpoint=http://mirror",
        "modelscopeEndpoint=http://mirror",
        "vendorDrivers.acme.driver=preprovisioned",
        "trust.caConfigMap=ca",
    ],
    "fetcher": [
        "nats.caSecret=ca",
        "hfEndpoint=http://mirror",
        "modelscopeEndpoint=http://mirror",
        "vendorDrivers.acme.driver=preprovisioned",
        "trust.caConfigMap=ca",
    ],
    "parser": [],
    "status": ["nats.caSecret=ca", "webhooks.enabled=true"],
}


def _container(process: str, *values: str) -> dict[str, Any]:
    arguments = [argument for value in values for argument in ("--set", value)]
    chart = PROCESSES[process][0]
    workloads = (item for item in render(chart, *arguments) if item["kind"] in ("Deployment", "DaemonSet"))
    containers = (each for item in workloads for each in item["spec"]["template"]["spec"]["containers"])
    found: dict[str, Any]
    (found,) = (container for container in containers if container["name"] == process)
    return found


def _environ(process: str, *values: str) -> dict[str, str]:
    # What the downward API fills in is known when the Pod runs.
    return {item["name"]: item.get("value", "10.0.0.1") for item in _container(process, *values)["env"]}


def _settings(process: str) -> Any:
    return importlib.import_module(PROCESSES[process][1]).Settings


def _fields(process: str) -> "Iterator[dataclasses.Field[object]]":
    yield from dataclasses.fields(_settings(process))


@pytest.mark.parametrize("service", SERVICES)
def test_each_variable_of_the_chart_is_a_setting(service: str) -> None:
    known = {variable_name(field) for field in _fields(service)}

    assert set(_environ(service, *_OPTIONS[service])) - known == set()


@pytest.mark.parametrize("service", SERVICES)
def test_each_setting_is_a_variable_of_the_chart(service: str) -> None:
    known = {variable_name(field) for field in _fields(service)}

    assert known - set(_environ(service, *_OPTIONS[service])) - set(_FROM_KUBELET) == set()


@pytest.mark.parametrize("service", SERVICES)
def test_the_service_accepts_what_the_chart_sets_by_default(service: str) -> None:
    load_settings(_settings(service), _environ(service) | _FROM_KUBELET)


# What a chart sets although a process that is started by hand is better off with another default: it listens on the
# address of its Pod, reserves the Secrets that it mounts, and is told by the kubelet where the API server is.
# The last names a Service, which nothing outside of a cluster has; resolvers of plans alone need it.
_ONLY_IN_PODS = {"listen_host", "reserved_secrets", "kubernetes_service_host", "parser_address"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_value_of_the_chart_and_the_setting_it_becomes_have_one_default(service: str) -> None:
    loaded = load_settings(_settings(service), _environ(service) | _FROM_KUBELET)
    drifted = {
        field.name: (getattr(loaded, field.name), field.default)
        for field in _fields(service)
        if field.default is not dataclasses.MISSING
        and not field.name.endswith("_file")
        and field.name not in _ONLY_IN_PODS
        and getattr(loaded, field.name) != field.default
    }
    assert drifted == {}


@pytest.mark.parametrize("chart", ["crds", "controller", "fetcher", "parser", "status"])
def test_every_chart_has_the_version_of_the_project(chart: str) -> None:
    described = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
    assert (described["version"], described["appVersion"]) == (VERSION, VERSION)


@pytest.mark.parametrize("service", SERVICES)
def test_files_that_settings_name_are_mounted(service: str) -> None:
    container = _container(service, *_OPTIONS[service])
    mounts = [Path(mount["mountPath"]) for mount in container.get("volumeMounts", [])]

    for item in container["env"]:
        if item["name"].endswith("_FILE"):
            assert any(Path(item["value"]).is_relative_to(mount) for mount in mounts), item

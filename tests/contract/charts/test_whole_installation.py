"""The chart that installs everything, and NATS within it: what it renders is valid, complete and of one mind."""

import base64
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cryptography import x509

from services.controller.first_secrets import new_secrets
from tests.support.chart_memory import charted_memory
from tests.support.programs import CHARTS, ROOT, programs, render, run
from tools.localcluster.natsserver import guide_configuration
from tools.localcluster.programs import PROGRAMS, pin_of

pytestmark = pytest.mark.cluster

WHOLE = CHARTS / "ome"
EXAMPLES = sorted((WHOLE / "examples").glob("*.yaml"))
WORKLOADS = ("DaemonSet", "Deployment", "StatefulSet")
REGISTRY = ("--set", "global.imageRegistry=registry.example.com/team")


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    [found] = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


@pytest.mark.parametrize("chart", ["nats", "ome"])
def test_helm_lint_finds_nothing(chart: str) -> None:
    run("helm", "lint", "--strict", str(CHARTS / chart), *REGISTRY)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_values_of_each_kind_of_site_render_valid_objects(example: Path) -> None:
    objects = render("ome", "--values", str(example))

    assert {"StatefulSet", "DaemonSet", "Deployment", "CustomResourceDefinition"} <= {item["kind"] for item in objects}
    for item in objects:
        if item["kind"] not in ("CustomResourceDefinition", "PodMonitor"):
            kubernetes_validate.validate(item, "1.30", strict=True)


@pytest.mark.parametrize("system", ["container-optimized-os", "bottlerocket", "talos"])
def test_the_values_for_a_read_only_system_have_no_model_root_below_it(system: str) -> None:
    objects = render("ome", "--values", str(WHOLE / "examples" / f"{system}.yaml"))
    pod = named(objects, "DaemonSet", "ome-fetcher")["spec"]["template"]["spec"]
    roots = [volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume]

    assert roots
    assert all(root.startswith(("/var/", "/local/", "/mnt/")) for root in roots)


@pytest.mark.parametrize("version", ["1.31", "1.32", "1.33", "1.34", "1.35", "1.36"])
def test_every_object_is_valid_for_later_versions_of_kubernetes(version: str) -> None:
    for item in render("ome", *REGISTRY):
        if item["kind"] != "CustomResourceDefinition":
            kubernetes_validate.validate(item, version, strict=True)


def test_every_image_of_ours_comes_from_the_registry_that_is_named() -> None:
    found = set(re.findall(r'"image": "([^"]+)"', json.dumps(render("ome", *REGISTRY))))

    ours = {f"registry.example.com/team/ome/{name}:0.1.0" for name in ("controller", "fetcher", "parser", "status")}
    assert {image for image in found if "ome/" in image} == ours
    parser = named(render("ome", *REGISTRY), "Deployment", "ome-controller")
    assert "registry.example.com/team/ome/parser:0.1.0" in json.dumps([parser])


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ((), "no images are published, so tell where yours are: set global.imageRegistry"),
        ((*REGISTRY, "--set", "ome-controller.nats.replicas=3"), "no more copies than there are servers"),
        ((*REGISTRY, "--set", "ome-natz.replicas=3"), "ome-natz"),
        ((*REGISTRY, "--set", "ome-nats.replicas=2"), "replicas"),
        ((*REGISTRY, "--set", "ome-fetcher.modelroots={/models}"), "modelroots"),
        ((*REGISTRY, "--set", "ome-fetcher.modelRoots={/models,/models/big}"), "/models/big lies in /models"),
        ((*REGISTRY, "--set", "ome-fetcher.modelRoots={/etc/models}"), "belongs to the operating system"),
        ((*REGISTRY, "--set", "ome-fetcher.heartbeatSeconds=60"), "unreachable between two heartbeats"),
        ((*REGISTRY, "--set", "ome-fetcher.tls.enabled=false"), "set both alike"),
        ((*REGISTRY, "--set", "ome-status.resources.memory=1Gi"), "memory"),
        ((*REGISTRY, "--set", "ome-status.resources.limits.memory=1 GB"), "memory"),
        (
            (*REGISTRY, "--set", "ome-parser.autoscaling.enabled=true", "--set", "ome-parser.replicas=9"),
            "must not be the smaller one",
        ),
    ],
)
def test_values_that_cannot_work_are_refused_in_words(values: tuple[str, ...], complaint: str) -> None:
    refused = run("helm", "template", "ome", str(WHOLE), *values, check=False)

    assert refused.returncode != 0
    assert complaint in refused.stderr


def test_services_speak_to_the_nats_server_that_comes_with_them() -> None:
    objects = render("ome", *REGISTRY)
    addresses = set(re.findall(r'"OME_NATS_URL", "value": "([^"]+)"', json.dumps(objects)))
    service = named(objects, "Service", "ome-nats")

    assert addresses == {"tls://ome-nats:4222"}
    assert [port["port"] for port in service["spec"]["ports"]] == [4222]
    authority = base64.b64decode(named(objects, "Secret", "ome-nats-ca")["data"]["ca.crt"])
    tls = named(objects, "Secret", "ome-nats-tls")["data"]
    certificate = x509.load_pem_x509_certificate(base64.b64decode(tls["tls.crt"]))
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"ome-nats", "*.ome-nats-servers.ome.svc"} <= set(names.get_values_for_type(x509.DNSName))


def test_without_our_nats_nothing_of_it_is_installed() -> None:
    objects = render("ome", *REGISTRY, "--set", "install.nats=false", "--set", "install.crds=false")

    assert not {"StatefulSet", "Job", "CustomResourceDefinition"} & {item["kind"] for item in objects}


def test_the_server_has_the_rights_that_the_code_gives() -> None:
    assert guide_configuration() in (CHARTS / "nats" / "files" / "accounts.conf").read_text()


def test_the_image_of_nats_is_the_version_that_the_tests_run_with() -> None:
    [server] = [program for program in PROGRAMS if program.name == "nats-server"]
    values = yaml.safe_load((CHARTS / "nats" / "values.yaml").read_text())

    assert values["image"]["tag"].partition("@")[0] == str(pin_of(server))


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("tls", ["true", "false"])
def test_nats_server_takes_the_configuration(replicas: int, tls: str, tmp_path: Path) -> None:
    objects = render("nats", "--set", f"replicas={replicas}", "--set", f"tls.enabled={tls}")
    for name, text in named(objects, "ConfigMap", "ome-nats")["data"].items():
        (tmp_path / name).write_text(text.replace("/var/run/secrets/tls", str(tmp_path)))
    if tls == "true":
        for name, encoded in named(objects, "Secret", "ome-nats-tls")["data"].items():
            (tmp_path / name).write_bytes(base64.b64decode(encoded))
    secrets = new_secrets()
    variables = {"POD_NAME": "ome-nats-0"}
    for each in named(objects, "StatefulSet", "ome-nats")["spec"]["template"]["spec"]["containers"][0]["env"]:
        if reference := each.get("valueFrom", {}).get("secretKeyRef"):
            variables[each["name"]] = secrets[reference["name"]][reference["key"]]

    checked = subprocess.run(
        [programs()["nats-server"], "-t", "-c", tmp_path / "nats.conf"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_nothing_that_stays_may_make_secrets() -> None:
    objects = render("nats")
    makers = [
        item
        for item in objects
        if any("create" in rule["verbs"] and "secrets" in rule["resources"] for rule in item.get("rules", []))
    ]

    assert [item["metadata"]["annotations"]["helm.sh/hook-delete-policy"] for item in makers] == [
        "before-hook-creation,hook-succeeded"
    ]


def test_what_has_several_replicas_is_spread_and_survives_a_drain() -> None:
    objects = render("ome", *REGISTRY)
    budgets = [item["spec"]["selector"]["matchLabels"] for item in objects if item["kind"] == "PodDisruptionBudget"]
    several = [item for item in objects if item["kind"] == "Deployment" and item["spec"]["replicas"] > 1]

    assert {item["metadata"]["name"] for item in several} == {
        "ome-controller",
        "ome-parser",
        "ome-resolver",
        "ome-status",
    }
    for item in several:
        selector, pod = item["spec"]["selector"]["matchLabels"], item["spec"]["template"]["spec"]
        # Two constraints of one Pod would say nothing about nodes without a zone: nodes that lack one of the keys are
        # left out of both.
        (zones,) = pod["topologySpreadConstraints"]
        (node,) = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        for each, key in ((zones, "topology.kubernetes.io/zone"), (node["podAffinityTerm"], "kubernetes.io/hostname")):
            assert each["topologyKey"] == key
            assert each["labelSelector"] == {"matchLabels": selector}
            assert each["matchLabelKeys"] == ["pod-template-hash"]
        assert selector in budgets


def test_every_workload_has_the_priority_class_that_is_named_for_it() -> None:
    names = [*(f"ome-{name}.priorityClassName" for name in ("controller", "fetcher", "nats", "parser", "status"))]
    names.append("ome-fetcher.resolver.priorityClassName")
    objects = render("ome", *REGISTRY, *(word for name in names for word in ("--set", f"{name}=important")))
    pods = [item["spec"]["template"]["spec"] for item in objects if item["kind"] in WORKLOADS]

    assert [pod["priorityClassName"] for pod in pods] == ["important"] * 6
    assert "priorityClassName" not in json.dumps(render("ome", *REGISTRY))


def test_the_parser_is_scaled_by_whoever_is_asked_to() -> None:
    objects = render("ome", *REGISTRY, "--set", "ome-parser.autoscaling.enabled=true")
    scaler = named(objects, "HorizontalPodAutoscaler", "ome-parser")["spec"]

    assert "replicas" not in named(objects, "Deployment", "ome-parser")["spec"], "an upgrade would undo the scaling"
    assert (scaler["minReplicas"], scaler["maxReplicas"], scaler["scaleTargetRef"]["name"]) == (2, 8, "ome-parser")
    assert "HorizontalPodAutoscaler" not in {item["kind"] for item in render("ome", *REGISTRY)}


def test_monitors_choose_every_pod_that_has_metrics_and_name_its_ports() -> None:
    charts = ("controller", "fetcher", "parser", "status")
    objects = render(
        "ome", *REGISTRY, *(word for c in charts for word in ("--set", f"ome-{c}.podMonitor.enabled=true"))
    )
    found = set()
    for monitor in (item["spec"] for item in objects if item["kind"] == "PodMonitor"):
        [expression] = monitor["selector"]["matchExpressions"]
        for workload in (item for item in objects if item["kind"] in WORKLOADS):
            labels = workload["spec"]["template"]["metadata"]["labels"]
            if labels[expression["key"]] in expression["values"]:
                assert monitor["selector"]["matchLabels"].items() <= labels.items()
                containers = workload["spec"]["template"]["spec"]["containers"]
                ports = {port["name"] for container in containers for port in container["ports"]}
                assert {each["port"] for each in monitor["podMetricsEndpoints"]} == ports - {"grpc", "page"}
                found.add(workload["metadata"]["name"])

    assert found == {"ome-controller", "ome-fetcher", "ome-parser", "ome-resolver", "ome-status"}
    assert "PodMonitor" not in {item["kind"] for item in render("ome", *REGISTRY)}


def test_alerts_link_to_their_runbooks_and_the_dashboard_is_where_grafana_looks() -> None:
    page = "https://docs.example.com/troubleshooting"
    values = (
        "alerts.enabled=true",
        f"alerts.runbookUrl={page}",
        "alerts.labels.release=prom",
        "dashboard.enabled=true",
    )
    objects = render("ome", *REGISTRY, *(word for value in values for word in ("--set", f"ome-status.{value}")))
    rule = named(objects, "PrometheusRule", "ome-status")
    dashboard = named(objects, "ConfigMap", "ome-status-dashboard")

    files = ROOT / "deploy" / "helm" / "status" / "files"
    written = [
        each for group in yaml.safe_load((files / "alerts.yaml").read_text())["groups"] for each in group["rules"]
    ]
    [group] = rule["spec"]["groups"]
    assert rule["metadata"]["labels"]["release"] == "prom"
    for installed, each in zip(group["rules"], written, strict=True):
        links = {"runbook_url": f"{page}#{each['alert'].lower()}"}
        assert installed == {**each, "annotations": {**each["annotations"], **links}}
    assert json.loads(dashboard["data"]["ome.json"]) == json.loads((files / "dashboard.json").read_text())
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    kinds = {(item["kind"], item["metadata"]["name"]) for item in render("ome", *REGISTRY)}
    assert not kinds & {("PrometheusRule", "ome-status"), ("ConfigMap", "ome-status-dashboard")}


def test_requests_hold_what_was_measured_with_a_thousand_nodes_and_limits_twice_that() -> None:
    text = (ROOT / "docs" / "guides" / "sizing.md").read_text()
    [services] = re.findall(
        r"^\| memory of controller, status service, gateway \|.*\| (\d+), (\d+), (\d+) MB \|$", text, re.MULTILINE
    )
    [nats] = re.findall(r"^\| memory of nats-server \|.*\| (\d+) MB \|$", text, re.MULTILINE)

    for process, megabytes in zip(("controller", "status", "gateway", "nats"), (*services, nats), strict=True):
        memory = charted_memory(process)
        assert memory.request >= int(megabytes) * 10**6, process
        assert memory.limit >= 2 * int(megabytes) * 10**6, process


@pytest.mark.parametrize("process", ["fetcher", "resolver", "parser"])
def test_requests_hold_what_was_measured_on_a_node_at_rest_and_limits_twice_the_most(process: str) -> None:
    text = (ROOT / "docs" / "guides" / "sizing.md").read_text()
    [(at_rest, most)] = re.findall(rf"^\| {process} \| (\d+) MB \| (\d+) MB", text, re.MULTILINE)

    memory = charted_memory(process)
    assert memory.request >= int(at_rest) * 10**6
    assert memory.limit >= 2 * int(most) * 10**6


def test_the_limit_of_the_resolver_holds_the_listings_that_it_may_make() -> None:
    values = yaml.safe_load((CHARTS / "fetcher" / "values.yaml").read_text())["resolver"]

    listings = values["parallelListings"] * values["listingMemoryBytes"]
    assert charted_memory("resolver").limit >= listings + (384 << 20)

"""The charts install what they promise: valid objects, few permissions, guarded containers, documented values."""

import base64
import contextlib
import datetime
import json
import re
import ssl
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from libs.artifact.labels import MODEL_LABEL, READABLE_NAME, STORAGE_LABELS, STORAGE_VALUE
from services.controller.gates import GATE, WAITING_LABEL
from services.controller.use import MODEL_ANNOTATION
from services.fetcher.sources.vendor.drivers import parse_drivers
from services.status.facts import FACT_FIELDS
from services.status.model_loop import REPORTING_CONTROLLER
from services.status.node_report import CONFIG_MAP_LABELS
from tests.support.programs import CHARTS, ROOT, image_values, programs, render, run

pytestmark = pytest.mark.cluster

SERVICES = ("controller", "fetcher", "parser", "status")
_OLDEST_KUBERNETES = "1.30"
# What kubernetes-validate has no schema for: the API extensions themselves are checked by a real API server.
_UNKNOWN_KINDS = ("CustomResourceDefinition",)


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[dict[str, Any]]]:
    return {chart: render(chart) for chart in ("crds", *SERVICES)}


def _workload(objects: list[dict[str, Any]], name: str = "") -> dict[str, Any]:
    """The workload of a name; without one that of the service which the chart is named after."""
    found = [item for item in objects if item["kind"] in ("Deployment", "DaemonSet")]
    named = [item for item in found if item["metadata"]["name"] == name]
    return (named or [item for item in found if item["metadata"]["name"] != "ome-resolver"])[0]


def _pod(objects: list[dict[str, Any]], name: str = "") -> dict[str, Any]:
    spec: dict[str, Any] = _workload(objects, name)["spec"]["template"]["spec"]
    return spec


def _container(objects: list[dict[str, Any]], name: str = "") -> dict[str, Any]:
    """The first container, which is the service itself."""
    return dict(_pod(objects, name)["containers"][0])


def _all_containers(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    workloads = (item for item in objects if item["kind"] in ("Deployment", "DaemonSet"))
    return [container for item in workloads for container in item["spec"]["template"]["spec"]["containers"]]


@pytest.mark.parametrize("chart", ["crds", *SERVICES])
def test_helm_lint_finds_nothing(chart: str) -> None:
    run("helm", "lint", "--strict", str(CHARTS / chart), *image_values(chart))


@pytest.mark.parametrize("chart", ["crds", *SERVICES])
def test_every_object_is_valid_for_the_oldest_supported_kubernetes(
    chart: str, rendered: dict[str, list[dict[str, Any]]]
) -> None:
    for item in rendered[chart]:
        if item["kind"] not in _UNKNOWN_KINDS:
            kubernetes_validate.validate(item, _OLDEST_KUBERNETES, strict=True)


@pytest.mark.parametrize("chart", SERVICES)
def test_every_namespaced_object_goes_where_the_release_goes(
    chart: str, rendered: dict[str, list[dict[str, Any]]]
) -> None:
    for item in rendered[chart]:
        cluster_wide = item["kind"].startswith(("ClusterRole", "ValidatingAdmissionPolicy"))
        assert item["metadata"].get("namespace") == (None if cluster_wide else "ome"), item["kind"]


@pytest.mark.parametrize("chart", SERVICES)
def test_containers_cannot_gain_privileges_or_write_to_their_image(
    chart: str, rendered: dict[str, list[dict[str, Any]]]
) -> None:
    for container in _all_containers(rendered[chart]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    assert _pod(rendered[chart])["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("chart", ["controller", "parser", "status"])
def test_only_the_fetcher_runs_as_root(chart: str, rendered: dict[str, list[dict[str, Any]]]) -> None:
    assert _pod(rendered[chart])["securityContext"]["runAsNonRoot"] is True
    assert _pod(rendered["fetcher"])["securityContext"]["runAsUser"] == 0
    assert _pod(rendered["fetcher"], "ome-resolver")["securityContext"]["runAsNonRoot"] is True


def test_the_fetcher_runs_as_the_owner_of_the_model_roots_where_one_is_named() -> None:
    assert _pod(render("fetcher", "--set", "runAsUser=1000"))["securityContext"]["runAsUser"] == 1000


def test_the_fetcher_has_the_selinux_context_that_is_named() -> None:
    def context(*arguments: str) -> Any:
        return _pod(render("fetcher", *arguments))["securityContext"].get("seLinuxOptions")

    assert context() is None
    assert context("--set", "seLinuxOptions.type=spc_t") == {"type": "spc_t"}


@pytest.mark.parametrize("chart", ["fetcher", "parser"])
def test_fetcher_and_parser_have_no_access_to_the_kubernetes_api(
    chart: str, rendered: dict[str, list[dict[str, Any]]]
) -> None:
    assert _pod(rendered[chart])["automountServiceAccountToken"] is False
    assert _pod(rendered[chart], "ome-resolver")["automountServiceAccountToken"] is False
    assert not [item["kind"] for item in rendered[chart] if "Role" in item["kind"]]


def test_the_fetcher_holds_its_service_accounts_token_where_oracle_exchanges_it() -> None:
    assert _pod(render("fetcher", "--set", "okeWorkloadIdentity=true"))["automountServiceAccountToken"] is True


def test_the_token_of_a_fetcher_is_good_for_nats_alone(rendered: dict[str, list[dict[str, Any]]]) -> None:
    tokens = [
        source["serviceAccountToken"]
        for volume in _pod(rendered["fetcher"])["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
    ]

    assert [token["audience"] for token in tokens] == ["nats"]


def test_the_api_server_lets_the_status_service_write_what_it_writes(rendered: dict[str, list[dict[str, Any]]]) -> None:
    # Said once more in the chart, as a policy cannot read our code.
    kind = "ValidatingAdmissionPolicy"
    policies = {item["metadata"]["name"]: item["spec"] for item in rendered["status"] if item["kind"] == kind}
    variables = {each["name"]: each["expression"] for each in policies["ome-status"]["variables"]}
    facts = re.findall(r"'([^']+)'", variables["facts"].partition("[]")[2])
    assert facts == [".".join(path) for path in FACT_FIELDS]

    rules = {name: json.dumps(policy) for name, policy in policies.items()}
    assert f"'^({MODEL_LABEL})$'" in rules["ome-status-nodes"]
    assert f"'^{STORAGE_VALUE}$'" in rules["ome-status-nodes"]
    assert all(f"'{label}'" in rules["ome-status-nodes"] for label in STORAGE_LABELS)
    assert f"'^{READABLE_NAME}$'" in rules["ome-status-configmaps"]
    assert all(f"'{label}'" in rules["ome-status-configmaps"] for label in CONFIG_MAP_LABELS)
    assert f"'{REPORTING_CONTROLLER}'" in rules["ome-status-created"]


def test_no_config_map_of_ours_bears_a_name_that_the_status_service_may_write(
    rendered: dict[str, list[dict[str, Any]]],
) -> None:
    objects = [*render("fetcher", "--set-json", f"vendorDrivers={json.dumps(_DRIVERS)}")]
    objects += [item for chart in rendered.values() for item in chart]
    names = {item["metadata"]["name"] for item in objects if item["kind"] == "ConfigMap"}
    pattern = r"ome-(controller|crds|fetcher|parser|resolver|status)(-|$)"
    assert f"'^{pattern}'" in json.dumps(rendered["status"])
    assert names
    assert all(re.match(pattern, name) for name in names)


def test_no_role_uses_a_wildcard(rendered: dict[str, list[dict[str, Any]]]) -> None:
    for chart in SERVICES:
        for item in rendered[chart]:
            for rule in item.get("rules", []):
                assert "*" not in json.dumps(rule), f"{chart}: {rule}"


def test_roles_of_people_reach_models_of_their_namespace_alone_unless_they_are_bound_by_hand(
    rendered: dict[str, list[dict[str, Any]]],
) -> None:
    roles = {item["metadata"]["name"]: item for item in rendered["crds"] if item["kind"] == "ClusterRole"}
    added = {
        name: {label.rpartition("-to-")[2] for label in role["metadata"]["labels"] if "aggregate-to-" in label}
        for name, role in roles.items()
    }
    assert added == {
        "ome-models-view": {"view"},
        "ome-models-edit": {"edit", "admin"},
        "ome-cluster-models-view": set(),
        "ome-cluster-models-edit": set(),
    }
    reading = {"get", "list", "watch"}
    for name, role in roles.items():
        [rule] = role["rules"]
        assert rule["apiGroups"] == ["ome.io"]
        assert rule["resources"] == (
            ["clusterbasemodels", "finetunedweights"] if "cluster" in name else ["basemodels", "inferenceservices"]
        )
        assert (set(rule["verbs"]) == reading) == name.endswith("view")


@pytest.mark.parametrize("chart", SERVICES)
def test_pods_are_probed_where_they_listen(chart: str, rendered: dict[str, list[dict[str, Any]]]) -> None:
    for container in _all_containers(rendered[chart]):
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        http, number = ("gateway-http", 8081) if container["name"] == "gateway" else ("http", 8080)

        assert ports[http] == number
        assert container["startupProbe"]["httpGet"] == {"path": "/healthz", "port": http}
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": http}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": http}


@pytest.mark.parametrize("chart", SERVICES)
def test_a_start_may_take_minutes_before_it_is_ended_for_that(
    chart: str, rendered: dict[str, list[dict[str, Any]]]
) -> None:
    for container in _all_containers(rendered[chart]):
        probe = container["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 300


@pytest.mark.parametrize("chart", SERVICES)
def test_pods_listen_on_the_loopback_too_unless_they_share_the_addresses_of_their_node(
    chart: str, rendered: dict[str, list[dict[str, Any]]]
) -> None:
    def hosts(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
        variables = (each for container in _all_containers(objects) for each in container["env"])
        return [each for each in variables if each["name"] == "OME_LISTEN_HOST"]

    assert len(hosts(rendered[chart])) == len(_all_containers(rendered[chart]))
    assert all(each["value"] == "::" for each in hosts(rendered[chart]))
    shared = hosts(render(chart, "--set", "listen=pod"))
    assert all(each["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}} for each in shared)


@pytest.mark.parametrize(
    ("chart", "ports"),
    [("parser", {"grpc": 9090}), ("status", {"grpc": 9090, "http": 8080, "page": 8443})],
    ids=["parser", "status"],
)
def test_services_offer_the_ports_that_pods_listen_on(
    chart: str, ports: dict[str, int], rendered: dict[str, list[dict[str, Any]]]
) -> None:
    (service,) = (item for item in rendered[chart] if item["kind"] == "Service")
    listening = {port["name"] for port in _container(rendered[chart])["ports"]}

    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == ports
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= listening
    assert (
        service["spec"]["selector"].items()
        <= _workload(rendered[chart])["spec"]["template"]["metadata"]["labels"].items()
    )


def test_every_model_root_is_mounted_below_the_host_root() -> None:
    objects = render("fetcher", "--set", "modelRoots={/models,/data/llm}")
    environ = {item["name"]: item.get("value") for item in _container(objects)["env"]}
    paths = {volume["name"]: volume["hostPath"] for volume in _pod(objects)["volumes"] if "hostPath" in volume}
    mounts = {
        mount["mountPath"]: paths[mount["name"]]
        for mount in _container(objects)["volumeMounts"]
        if mount["name"] in paths
    }

    assert environ["OME_MODEL_ROOTS"] == "/models,/data/llm"
    assert mounts == {
        f"{environ['OME_HOST_ROOT']}/models": {"path": "/models", "type": "DirectoryOrCreate"},
        f"{environ['OME_HOST_ROOT']}/data/llm": {"path": "/data/llm", "type": "DirectoryOrCreate"},
    }


_DRIVERS = {
    "acme": {
        "driver": "http",
        "index": "https://models.acme.com/{type}/{path}/index.json?a=1&b=2",
        "headers": {"Authorization": "Bearer {secret:token}"},
    },
    "zenith": {"driver": "exec", "command": ["/opt/zenith/driver"], "timeoutSeconds": 60},
}


def test_drivers_of_vendors_reach_the_fetcher_as_they_were_written() -> None:
    objects = render("fetcher", "--set-json", f"vendorDrivers={json.dumps(_DRIVERS)}")
    (config,) = (item for item in objects if item["kind"] == "ConfigMap")
    environ = {item["name"]: item.get("value") for item in _container(objects)["env"]}
    (volume,) = (volume["name"] for volume in _pod(objects)["volumes"] if "configMap" in volume)
    (mount,) = (mount["mountPath"] for mount in _container(objects)["volumeMounts"] if mount["name"] == volume)

    assert config["metadata"]["namespace"] == "ome"
    assert environ["OME_VENDOR_DRIVERS_FILE"] == f"{mount}/drivers.json"
    assert parse_drivers(config["data"]["drivers.json"]).keys() == _DRIVERS.keys()
    assert json.loads(config["data"]["drivers.json"]) == _DRIVERS


def test_pods_start_anew_when_the_drivers_change() -> None:
    def annotations(*arguments: str) -> Any:
        return _workload(render("fetcher", *arguments))["spec"]["template"]["metadata"].get("annotations", {})

    found = [
        annotations("--set-json", f"vendorDrivers={json.dumps({'acme': {'driver': kind}})}")["checksum/vendor-drivers"]
        for kind in ("preprovisioned", "http", "http")
    ]
    assert found[0] != found[1] == found[2]
    assert annotations() == {}


_PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
TRUST = {
    "the text": ({"caBundle": _PEM}, {"configMap": {"name": "ome-fetcher-source-ca"}}, "ca.crt"),
    "a ConfigMap": (
        {"caConfigMap": "site-ca", "caKey": "bundle.pem"},
        {"configMap": {"name": "site-ca"}},
        "bundle.pem",
    ),
    "a Secret": ({"caSecret": "site-ca"}, {"secret": {"secretName": "site-ca"}}, "ca.crt"),
}


@pytest.mark.parametrize("workload", ["", "ome-resolver"])
@pytest.mark.parametrize(("trust", "source", "key"), TRUST.values(), ids=TRUST)
def test_authorities_of_sources_reach_fetcher_and_resolver(
    trust: dict[str, str], source: dict[str, Any], key: str, workload: str
) -> None:
    objects = render("fetcher", "--set-json", f"trust={json.dumps(trust)}")
    environ = {item["name"]: item.get("value") for item in _container(objects, workload)["env"]}
    [mount] = [each for each in _container(objects, workload)["volumeMounts"] if each["name"] == "source-ca"]

    assert {"name": "source-ca", **source} in _pod(objects, workload)["volumes"]
    assert environ["OME_SOURCE_CA_FILE"] == f"{mount['mountPath']}/{key}"
    assert mount["readOnly"] is True
    made = [item["data"] for item in objects if item["kind"] == "ConfigMap"]
    assert made == ([{"ca.crt": _PEM}] if "caBundle" in trust else [])
    for item in objects:
        kubernetes_validate.validate(item, _OLDEST_KUBERNETES, strict=True)


def test_authorities_in_two_places_are_refused() -> None:
    with pytest.raises(AssertionError, match="give one of caBundle, caConfigMap and caSecret"):
        render("fetcher", "--set", "trust.caConfigMap=a", "--set", "trust.caSecret=b")


@pytest.mark.parametrize("workload", ["", "ome-resolver"])
def test_proxies_reach_fetcher_and_resolver(workload: str) -> None:
    proxy = {"http": "http://proxy:3128", "https": "http://proxy:3129", "noProxy": ["hub.internal", "169.254.169.254"]}
    objects = render("fetcher", "--set-json", f"proxy={json.dumps(proxy)}")
    environ = {item["name"]: item.get("value") for item in _container(objects, workload)["env"]}

    assert {name: environ.get(name) for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")} == {
        "HTTP_PROXY": "http://proxy:3128",
        "HTTPS_PROXY": "http://proxy:3129",
        "NO_PROXY": "hub.internal,169.254.169.254",
    }
    plain = {item["name"] for item in _container(render("fetcher"), workload)["env"]}
    assert not plain & {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "OME_SOURCE_CA_FILE"}


def test_a_program_of_a_vendor_can_be_put_beside_the_fetcher() -> None:
    volume = {"name": "zenith", "emptyDir": {}}
    mount = {"name": "zenith", "mountPath": "/opt/zenith"}
    init = {"name": "zenith", "image": "zenith/driver:1", "volumeMounts": [mount]}
    values = {"extraVolumes": [volume], "extraVolumeMounts": [mount], "initContainers": [init]}
    objects = render(
        "fetcher", *(word for name in values for word in ("--set-json", f"{name}={json.dumps(values[name])}"))
    )

    for item in objects:
        kubernetes_validate.validate(item, _OLDEST_KUBERNETES, strict=True)
    assert volume in _pod(objects)["volumes"]
    assert mount in _container(objects)["volumeMounts"]
    assert _pod(objects)["initContainers"] == [init]


def test_a_cloud_can_give_the_fetcher_an_identity() -> None:
    role, use = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/ome"}, {"azure.workload.identity/use": "true"}
    objects = render(
        "fetcher",
        "--set-json",
        f"serviceAccountAnnotations={json.dumps(role)}",
        "--set-json",
        f"podLabels={json.dumps(use)}",
    )
    accounts = [item for item in objects if item["kind"] == "ServiceAccount"]
    assert {item["metadata"]["name"] for item in accounts} == {"ome-fetcher", "ome-resolver"}
    assert all(item["metadata"]["annotations"] == role for item in accounts)
    assert use.items() <= _workload(objects)["spec"]["template"]["metadata"]["labels"].items()
    assert not use.items() & _workload(objects)["spec"]["selector"]["matchLabels"].items()


@pytest.mark.parametrize("chart", ["controller", "parser", "status"])
def test_a_single_replica_has_no_disruption_budget_that_would_block_a_drain(chart: str) -> None:
    kinds = {replicas: [item["kind"] for item in render(chart, "--set", f"replicas={replicas}")] for replicas in (1, 2)}

    assert "PodDisruptionBudget" not in kinds[1]
    assert "PodDisruptionBudget" in kinds[2]


@pytest.mark.parametrize("chart", ["controller", "fetcher", "status"])
def test_a_certificate_authority_is_mounted_where_it_is_named(chart: str) -> None:
    objects = render(chart, "--set", "nats.caSecret=nats-ca")
    environ = {item["name"]: item.get("value") for item in _container(objects)["env"]}
    (volume,) = (
        volume["name"] for volume in _pod(objects)["volumes"] if volume.get("secret", {}).get("secretName") == "nats-ca"
    )
    (mount,) = (mount["mountPath"] for mount in _container(objects)["volumeMounts"] if mount["name"] == volume)

    assert environ["OME_NATS_CA_FILE"] == f"{mount}/ca.crt"


@pytest.mark.parametrize("chart", SERVICES)
def test_the_image_follows_the_chart_unless_a_tag_is_given(
    chart: str, rendered: dict[str, list[dict[str, Any]]]
) -> None:
    version = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())["appVersion"]

    assert _container(rendered[chart])["image"] == f"ome/{chart}:{version}"
    assert _container(render(chart, "--set", "image.tag=v9"))["image"] == f"ome/{chart}:v9"


@pytest.mark.parametrize("chart", SERVICES)
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("imagge.tag=1", "imagge"),
        ("logLevel=loud", "logLevel"),
        ("image.repository=", "no images are published, so tell where yours are: set global.imageRegistry"),
    ],
    ids=["a misspelt value", "an unknown log level", "no image"],
)
def test_helm_refuses(chart: str, value: str, complaint: str) -> None:
    found = run("helm", "template", "x", str(CHARTS / chart), "--set", value, check=False)

    assert found.returncode != 0
    assert complaint in found.stderr


@pytest.mark.parametrize("root", ["models", "/models/", "/", "/a/../b", "/with,comma"])
def test_helm_refuses_a_model_root_that_is_no_plain_directory(root: str) -> None:
    found = run(
        "helm", "template", "x", str(CHARTS / "fetcher"), "--set-json", f"modelRoots=[{json.dumps(root)}]", check=False
    )

    assert "modelRoots" in found.stderr


def _keys(values: Any, prefix: str = "") -> set[str]:
    if not isinstance(values, dict) or not values:
        return {prefix}
    return {key for name, value in values.items() for key in _keys(value, f"{prefix}.{name}")}


def _schema_keys(schema: dict[str, Any], prefix: str = "") -> set[str]:
    properties = schema.get("properties")
    if not properties:
        return {prefix}
    return {key for name, value in properties.items() for key in _schema_keys(value, f"{prefix}.{name}")}


@pytest.mark.parametrize("chart", SERVICES)
def test_every_value_has_a_default_and_a_schema(chart: str) -> None:
    defaults = _keys(yaml.safe_load((CHARTS / chart / "values.yaml").read_text()))
    schema = _schema_keys(json.loads((CHARTS / chart / "values.schema.json").read_text())) - {".global"}
    free_form = (
        ".resources.",
        ".updateStrategy.",
        ".nodeSelector.",
        ".gatewayResources.",
        ".seLinuxOptions.",
        ".resolver.resources.",
        ".dashboard.labels.",
    )

    assert {key for key in defaults if not f"{key}.".startswith(free_form)} | {".nodeSelector"} == {
        key for key in schema if not f"{key}.".startswith(free_form)
    } | {".nodeSelector"}


def test_the_charts_describe_pods_alike() -> None:
    copies = {(CHARTS / chart / "templates" / "_pod.tpl").read_text() for chart in SERVICES}

    assert len(copies) == 1


def test_times_may_be_fractions_on_the_command_line() -> None:
    environ = {
        item["name"]: item.get("value")
        for item in _container(render("fetcher", "--set", "retryInitialSeconds=0.5"))["env"]
    }

    assert environ["OME_RETRY_INITIAL_SECONDS"] == "0.5"


def test_large_numbers_are_written_out() -> None:
    environ = {item["name"]: item.get("value") for item in _container(render("fetcher"))["env"]}

    assert not [name for name, value in environ.items() if "e+" in (value or "")]


def test_the_commands_of_the_readme_install_every_chart() -> None:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    [block] = [block for block in blocks if "helm " in block]
    assert "helm install" in block
    rendered = subprocess.run(
        ["bash", "-euc", block.replace("helm install", f"{programs()['helm']} template")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert rendered.returncode == 0, rendered.stderr
    for name in ("ome-controller", "ome-fetcher", "ome-parser", "ome-status", "clusterbasemodels.ome.io"):
        assert f"name: {name}" in rendered.stdout


def _secret_readers(*values: str) -> dict[str, list[str]]:
    """Verbs on Secrets by namespace of the role that grants them; that of a ClusterRole is empty."""
    arguments = [argument for value in values for argument in ("--set", value)]
    return {
        item["metadata"].get("namespace", ""): rule["verbs"]
        for item in render("controller", *arguments)
        if item["kind"] in ("ClusterRole", "Role")
        for rule in item["rules"]
        if "secrets" in rule["resources"]
    }


def test_the_controller_reads_secrets_by_name_and_where_it_is_told_to() -> None:
    assert _secret_readers() == {"": ["get"]}
    restricted = _secret_readers("readSecretsIn={team-a,ome}", "secretNamespaces={model-secrets,team-a}")
    assert restricted == {namespace: ["get"] for namespace in ("ome", "model-secrets", "team-a")}


def test_no_model_may_name_a_secret_that_the_charts_use_themselves() -> None:
    values = ("nats.passwordSecret=mine", "imagePullSecrets[0].name=registry")
    objects = render("controller", *(argument for value in values for argument in ("--set", value)))
    [reserved] = [item["value"] for item in _container(objects)["env"] if item["name"] == "OME_RESERVED_SECRETS"]
    ours = {f"ome-nats-{name}" for name in ("issuer", "status", "gateway", "gateway-nodes", "resolver", "resolvers")}
    ours |= {"ome-nats-tls", "ome-parser-tls", "ome-parser-client-tls", "ome-status-tls", "ome-hub-webhook"}
    assert set(reserved.split(",")) == {"mine", "registry", *ours}


def test_only_the_gateway_can_vouch_for_a_node(rendered: dict[str, list[dict[str, Any]]]) -> None:
    volumes = {
        volume["name"]: volume.get("secret", {}).get("secretName") for volume in _pod(rendered["controller"])["volumes"]
    }
    mounted = {
        container["name"]: {volumes[mount["name"]] for mount in container["volumeMounts"]}
        for container in _pod(rendered["controller"])["containers"]
    }
    assert mounted == {
        "controller": {"ome-nats-controller"},
        "gateway": {"ome-nats-gateway", "ome-nats-gateway-nodes", "ome-nats-issuer"},
    }


def test_what_lists_sources_has_no_disk_of_a_node(rendered: dict[str, list[dict[str, Any]]]) -> None:
    resolver = _workload(rendered["fetcher"], "ome-resolver")
    pod = resolver["spec"]["template"]["spec"]
    selectors = [item["spec"]["selector"]["matchLabels"] for item in (resolver, _workload(rendered["fetcher"]))]
    assert selectors[0] != selectors[1]
    assert pod["serviceAccountName"] == "ome-resolver"
    # A password, and what the parser knows it by.
    assert [list(volume) for volume in pod["volumes"]] == [["name", "secret"], ["name", "secret"]]
    assert pod["containers"][0]["args"] == ["resolve"]


def _secrets(objects: list[dict[str, Any]]) -> dict[str, dict[str, bytes]]:
    return {
        item["metadata"]["name"]: {name: base64.b64decode(value) for name, value in item["data"].items()}
        for item in objects
        if item["kind"] == "Secret"
    }


def _mounted_secrets(objects: list[dict[str, Any]]) -> dict[str, str]:
    """Names of mounted Secrets by the directory."""
    volumes = {volume["name"]: volume.get("secret", {}).get("secretName", "") for volume in _pod(objects)["volumes"]}
    return {mount["mountPath"]: volumes[mount["name"]] for mount in _container(objects).get("volumeMounts", [])}


def _environ(objects: list[dict[str, Any]]) -> dict[str, str | None]:
    return {item["name"]: item.get("value") for item in _container(objects)["env"]}


def _names(certificate: x509.Certificate) -> tuple[set[str], set[str]]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(names.get_values_for_type(x509.DNSName)), set(map(str, names.get_values_for_type(x509.IPAddress)))


@pytest.mark.parametrize("chart", ["parser", "status"])
def test_a_service_gets_a_certificate_for_the_names_it_is_called_by(chart: str) -> None:
    more = ("--set", "tls.extraNames={models.example.com}", "--set", "tls.extraAddresses={192.0.2.7}")
    found = _secrets(render(chart, *more))[f"ome-{chart}-tls"]
    certificate = x509.load_pem_x509_certificate(found["tls.crt"])
    authority = x509.load_pem_x509_certificate(found["ca.crt"])

    certificate.verify_directly_issued_by(authority)
    names, addresses = _names(certificate)
    assert {f"ome-{chart}.ome.svc", f"ome-{chart}", "models.example.com"} <= names
    assert addresses == {"127.0.0.1", "192.0.2.7"}
    assert certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC) > datetime.timedelta(days=3600)


def _handshake(server: ssl.SSLObject, client: ssl.SSLObject, ways: tuple[ssl.MemoryBIO, ...]) -> None:
    """Let both talk until each has seen the other's certificate; raises what OpenSSL says against one."""
    to_server, from_server, to_client, from_client = ways
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
                waiting.remove(side)
            to_server.write(from_client.read())
            to_client.write(from_server.read())
    assert not waiting


@pytest.mark.parametrize("chart", ["nats", "parser", "status"])
def test_openssl_trusts_a_certificate_of_helm_by_its_authority(chart: str, tmp_path: Path) -> None:
    found = _secrets(render(chart))[f"ome-{chart}-tls"]
    for name, content in found.items():
        (tmp_path / name).write_bytes(content)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    calling = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    ways = tuple(ssl.MemoryBIO() for _ in range(4))

    _handshake(
        serving.wrap_bio(ways[0], ways[1], server_side=True),
        calling.wrap_bio(ways[2], ways[3], server_hostname=f"ome-{chart}"),
        ways,
    )


def test_a_fetcher_gets_a_certificate_that_is_none_of_the_parser(rendered: dict[str, list[dict[str, Any]]]) -> None:
    secrets = _secrets(rendered["parser"])
    parser, client = secrets["ome-parser-tls"], secrets["ome-parser-client-tls"]
    certificate = x509.load_pem_x509_certificate(client["tls.crt"])

    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(client["ca.crt"]))
    assert parser["ca.crt"] == client["ca.crt"]
    assert _names(certificate) == ({"ome-fetcher"}, set())
    assert _mounted_secrets(rendered["fetcher"])["/var/run/secrets/parser-tls"] == "ome-parser-client-tls"


def test_the_key_of_an_authority_is_nowhere(rendered: dict[str, list[dict[str, Any]]]) -> None:
    for chart in ("parser", "status"):
        for name, files in _secrets(rendered[chart]).items():
            assert set(files) == {"ca.crt", "tls.crt", "tls.key"}
            key = serialization.load_pem_private_key(files["tls.key"], None)
            authority = x509.load_pem_x509_certificate(files["ca.crt"])
            assert key.public_key() != authority.public_key(), name


def test_services_have_authorities_of_their_own(rendered: dict[str, list[dict[str, Any]]]) -> None:
    authorities = {_secrets(rendered[chart])[f"ome-{chart}-tls"]["ca.crt"] for chart in ("parser", "status")}
    assert len(authorities) == 2


def test_callers_of_status_find_its_authority_without_reading_a_secret() -> None:
    objects = render("status")
    (config,) = (item for item in objects if item["kind"] == "ConfigMap")

    assert config["metadata"]["name"] == "ome-status-ca"
    assert config["data"]["ca.crt"].encode().strip() == _secrets(objects)["ome-status-tls"]["ca.crt"].strip()


@pytest.mark.parametrize(
    ("chart", "setting", "directory"),
    [
        ("parser", "OME_GRPC", "/var/run/secrets/tls"),
        ("status", "OME_GRPC", "/var/run/secrets/tls"),
        ("fetcher", "OME_PARSER", "/var/run/secrets/parser-tls"),
    ],
)
def test_tls_is_on_unless_plain_text_is_asked_for(chart: str, setting: str, directory: str) -> None:
    own = render(chart, "--set", "tls.existingSecret=mine")
    assert _mounted_secrets(own)[directory] == "mine"
    assert (_environ(own)[f"{setting}_PLAINTEXT"], _environ(own)[f"{setting}_TLS_DIR"]) == ("false", directory)
    assert _secrets(own) == {}

    plain = render(chart, "--set", "tls.enabled=false")
    assert _environ(plain)[f"{setting}_PLAINTEXT"] == "true"
    assert f"{setting}_TLS_DIR" not in _environ(plain)
    assert _secrets(plain) == {}
    for item in plain:
        kubernetes_validate.validate(item, _OLDEST_KUBERNETES, strict=True)


@pytest.mark.parametrize("chart", ["parser", "status"])
def test_cert_manager_makes_the_certificates_where_it_is_asked_to(chart: str) -> None:
    objects = render(chart, "--set", "tls.certManager.issuerRef.name=ome-ca")
    certificates = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "Certificate"}

    assert _secrets(objects) == {}
    assert all(spec["secretName"] == name for name, spec in certificates.items())
    assert all(
        spec["issuerRef"] == {"name": "ome-ca", "kind": "Issuer", "group": "cert-manager.io"}
        for spec in certificates.values()
    )
    server = certificates.pop(f"ome-{chart}-tls")
    assert f"ome-{chart}.ome.svc" in server["dnsNames"]
    assert server["usages"] == ["digital signature", "server auth"]
    # A certificate of the parser is none of a caller.
    usages = {name: spec["usages"] for name, spec in certificates.items()}
    assert usages == ({"ome-parser-client-tls": ["digital signature", "client auth"]} if chart == "parser" else {})


def test_no_model_may_name_a_secret_with_a_key_of_the_services(rendered: dict[str, list[dict[str, Any]]]) -> None:
    made = {name for chart in ("parser", "status") for name in _secrets(rendered[chart])}
    reserved = _environ(rendered["controller"])["OME_RESERVED_SECRETS"] or ""
    assert made <= set(reserved.split(","))


def test_the_charts_make_certificates_alike() -> None:
    copies = {(CHARTS / chart / "templates" / "_tls.tpl").read_text() for chart in ("parser", "status", "nats")}
    assert len(copies) == 1


def test_without_the_page_nothing_of_it_is_left() -> None:
    objects = render("status", "--set", "page.enabled=false")
    (service,) = (item for item in objects if item["kind"] == "Service")

    assert [port["name"] for port in _container(objects)["ports"]] == ["grpc", "http"]
    assert [port["name"] for port in service["spec"]["ports"]] == ["grpc", "http"]
    variables = {item["name"]: item.get("value") for item in _container(objects)["env"] if "PAGE" in item["name"]}
    assert variables == {"OME_PAGE_ENABLED": "false"}


def test_pods_are_completed_where_the_api_server_serves_the_policies_for_it_or_where_it_is_asked_for() -> None:
    served = ("--api-versions", "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy")
    roots = ("--set", "podPolicy.modelRoots={/models}")

    def policies(*arguments: str) -> set[str]:
        rendered = render("controller", *arguments)
        return {item["metadata"]["name"] for item in rendered if item["kind"] == "MutatingAdmissionPolicy"}

    assert policies() == set()
    assert policies(*served) == policies("--set", "podPolicy.enabled=always") == {"ome-controller-place-pods"}
    assert policies(*served, "--set", "podPolicy.enabled=never") == set()
    assert policies(*served, *roots) == {"ome-controller-place-pods", "ome-controller-mount-models"}


def test_policy_guard_and_controller_mean_the_same_words_by_a_waiting_pod() -> None:
    rendered = render("controller", "--set", "podPolicy.enabled=always")
    texts = {
        item["metadata"]["name"]: str(item["spec"])
        for item in rendered
        if item["kind"] in ("MutatingAdmissionPolicy", "ValidatingAdmissionPolicy")
    }

    for name in ("ome-controller-place-pods", "ome-controller-pods"):
        assert GATE in texts[name]
        assert WAITING_LABEL in texts[name]
    assert MODEL_ANNOTATION in texts["ome-controller-place-pods"]

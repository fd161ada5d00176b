"""The life of a service's process: bad settings are all named, a signal ends it in order."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path

import pytest

from libs.chassis.settings import variable_name
from tools.localcluster.addresses import free_port

SERVICES = ("controller", "fetcher", "parser", "status")
PATHS = os.pathsep.join((str(Path.cwd()), str(Path.cwd() / "proto")))


@pytest.mark.parametrize("service", SERVICES)
def test_service_with_bad_settings_names_all_of_them_and_exits_2(service: str) -> None:
    settings = import_module(f"services.{service}.settings").Settings
    bad = {"OME_HTTP_PORT": "many", "OME_LOG_LEVEL": "loud"}
    ended = subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        env={"PYTHONPATH": PATHS, **bad},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    required = {variable_name(field) for field in fields(settings) if field.default is MISSING}
    for variable in {*required, *bad}:
        assert variable in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("service", ["controller", "status"])
def test_service_whose_service_account_cannot_be_used_says_so_and_exits_2(service: str, tmp_path: Path) -> None:
    environment = {
        "OME_NAMESPACE": "ome",
        "OME_POD_NAME": "pod",
        "OME_NATS_URL": "nats://127.0.0.1:1",
        "OME_NATS_PASSWORD_FILE": str(tmp_path / "password"),
        "OME_NATS_ISSUER_SEED_FILE": str(tmp_path / "seed"),
        "OME_PARSER_IMAGE": "ome/parser",
        "OME_SERVICE_ACCOUNT_DIR": str(tmp_path),
        "OME_LISTEN_HOST": "127.0.0.1",
        "OME_HTTP_PORT": "0",
        "OME_GRPC_PORT": "0",
    }
    ended = subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        env={"PYTHONPATH": PATHS, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "ServiceAccount cannot be used" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_service_that_gets_a_signal_ends_in_order_and_exits_0() -> None:
    environment = {
        "PYTHONPATH": PATHS,
        "OME_LISTEN_HOST": "127.0.0.1",
        "OME_HTTP_PORT": str(free_port()),
        "OME_GRPC_PORT": str(free_port()),
        "OME_GRPC_PLAINTEXT": "true",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "services.parser"], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert "started" in line
    assert "stopped" in rest
    assert process.returncode == 0


SERVICE_COMMANDS = {
    ("services.controller",): "services.controller.settings",
    ("services.controller", "gateway"): "services.controller.gateway.settings",
    ("services.fetcher",): "services.fetcher.settings",
    ("services.fetcher", "clean"): "services.fetcher.cleaning",
    ("services.fetcher", "resolve"): "services.fetcher.resolver",
    ("services.parser",): "services.parser.settings",
    ("services.status",): "services.status.settings",
}
OTHER_COMMANDS = (
    ("services.parser", "inspect"),
    ("services.parser", "inspect-volume"),
    ("tools.localcluster",),
    ("tools.localcluster", "up"),
    ("tools.bootstrap.protos",),
    ("deploy.crd.generate",),
)


def called(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """A module, called as people call it first: with nothing in the environment."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env={"PYTHONPATH": PATHS, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(("command", "settings"), SERVICE_COMMANDS.items(), ids=map(" ".join, SERVICE_COMMANDS))
def test_help_tells_every_setting_and_starts_nothing(command: tuple[str, ...], settings: str) -> None:
    told = called(*command, "--help")

    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"usage: python -m {' '.join(command)}\n")
    for field in fields(import_module(settings).Settings):
        assert variable_name(field) in told.stdout
        assert " ".join(field.metadata["help"].split()[:3]) in told.stdout
        required = f"{variable_name(field)} (required)" in told.stdout
        assert required == (field.default is MISSING), field.name
    assert max(map(len, told.stdout.splitlines())) <= 140


@pytest.mark.parametrize("command", OTHER_COMMANDS, ids=map(" ".join, OTHER_COMMANDS))
def test_help_of_a_tool_says_how_it_is_called(command: tuple[str, ...]) -> None:
    told = called(*command, "-h")

    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"usage: python -m {' '.join(command)}")


def test_a_further_command_of_a_module_is_told() -> None:
    assert "  resolve\n" in called("services.fetcher", "--help").stdout
    assert "  gateway\n" in called("services.controller", "-h").stdout
    assert "  inspect\n" in called("services.parser", "--help").stdout


@pytest.mark.parametrize("service", SERVICES)
def test_a_misspelt_command_starts_no_service(service: str) -> None:
    refused = called(f"services.{service}", "resovle")

    assert refused.returncode == 2
    assert refused.stderr == (
        f"{service}: 'resovle' is no argument; python -m services.{service} --help tells what there is\n"
    )


def test_a_cluster_without_nodes_is_refused_at_once() -> None:
    for nodes in ("0", "-1", "many"):
        refused = called("tools.localcluster", "up", "--nodes", nodes)

        assert refused.returncode == 2
        assert f"must be at least 1, not '{nodes}'" in refused.stderr


def test_what_listens_on_all_addresses_answers_on_the_loopback_of_both_families() -> None:
    # kubectl port-forward connects to the loopback of the Pod, and the kubelet to the Pod's address of either family.
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.everywhere"],
        env={"PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == ["127.0.0.1:8080", "[::1]:8080", "127.0.0.1:9090", "[::1]:9090"]

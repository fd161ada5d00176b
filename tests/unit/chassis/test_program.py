"""The life of a service's process: bad settings are all named, a signal ends it in order."""

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

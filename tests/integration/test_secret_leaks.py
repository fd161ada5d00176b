"""Secrets of models stay where they belong: canaries go through the whole line, and are then looked for everywhere."""

import base64
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from ome.status.v1 import status_pb2
from tests.support.eavesdropper import eavesdropping, stored_messages
from tests.support.fleet import Fleet, Object, model, secret, started_fleet
from tests.support.hub import generated_model
from tests.support.oracle_store import BUCKET, NAMESPACE, OracleStore
from tests.support.seaweedfs import OWNER, SeaweedFs

pytestmark = pytest.mark.cluster

GOOD, WRONG, INLINE = (f"hf_canary{kind}" + kind[0] * 24 for kind in ("good", "wrong", "inline"))
MALFORMED = "hf_canarymalformed\nX-Injected: canary"
S3_KEY, WRONG_S3_KEY = OWNER["AWS_SECRET_ACCESS_KEY"].decode(), "wrongcanarysecretkey"
# Where the controller answers who asks for secrets: "_R_." is the way to the account of the resolvers.
ANSWERS = ("_R_.", "_INBOX_gateway.")
HERE = {"kubernetes.io/hostname": "node-1"}
SERVICES = ("controller", "fetcher", "parser", "status")
VALUES = {service: {"logLevel": "debug"} for service in SERVICES}
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with started_fleet(1, VALUES) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFs]:
    with SeaweedFs(tmp_path_factory.mktemp("seaweedfs")) as server:
        server.put("models", "tiny", {"config.json": b"{}", "weights.bin": bytes(100_000)})
        yield server


@pytest.fixture(scope="module")
def oracle() -> Iterator[OracleStore]:
    with OracleStore() as store:
        store.put("tiny/config.json", b"{}")
        yield store


def forms(value: str) -> set[bytes]:
    """How a secret may be written down: as it is, in a URL, and anywhere within something that is encoded in Base64."""
    raw = value.encode()
    shifted = (base64.b64encode(bytes(shift) + raw)[4 if shift else 0 :].rstrip(b"=")[:-1] for shift in range(3))
    return {raw, quote(value).encode(), *shifted}


def leaks(canaries: dict[str, str], places: dict[str, bytes]) -> list[str]:
    return [
        f"{name} in {place}"
        for name, value in canaries.items()
        for place, content in places.items()
        if any(form in content for form in forms(value))
    ]


def objects(fleet: Fleet) -> dict[str, bytes]:
    """Every object of the API but Secrets, and without what the user wrote into the model with a token."""
    kinds = fleet.cluster.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    listed = fleet.cluster.kubectl("get", ",".join(kind for kind in kinds if kind != "secrets"), "-A", "-o", "json")
    found = {}
    for item in json.loads(listed)["items"]:
        metadata = item["metadata"]
        if metadata["name"].startswith("inline") and item["kind"] == "ClusterBaseModel":
            del item["spec"]["storage"]["parameters"]["token"]
            del metadata["annotations"][LAST_APPLIED]
        found[f"{item['kind']} {metadata.get('namespace', '')}/{metadata['name']}"] = json.dumps(item).encode()
    assert any(name.startswith("Event ") for name in found)
    assert any(name.startswith("ConfigMap ome/") for name in found)
    return found


def processes(fleet: Fleet) -> dict[str, bytes]:
    """Log, arguments, environment, metrics of every container."""
    found, names = {}, set()
    for pod in fleet.cluster.pods():
        for container in pod.containers:
            names.add(container.name)
            place = f"{container.name} in {pod.name}"
            found[f"log of {place}"] = container.log.read_bytes()
            for part in ("cmdline", "environ"):
                found[f"{part} of {place}"] = Path(f"/proc/{container.pid}/{part}").read_bytes()
            port = 8081 if container.name == "gateway" else 8080
            with urllib.request.urlopen(f"http://{pod.address}:{port}/metrics") as answer:
                found[f"metrics of {place}"] = answer.read()
            assert b"OME_LOG_LEVEL=debug" in found[f"environ of {place}"]
    assert names == {*SERVICES, "gateway", "resolver"}
    return found


def files(fleet: Fleet) -> dict[str, bytes]:
    """Every file of the node, those of its Pods included."""
    folder = fleet.cluster.node_root("node-1").parent
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert any(name.endswith("model.safetensors") for name in found)
    return found


def models(fleet: Fleet, s3: SeaweedFs, oracle: OracleStore) -> tuple[list[Object], list[Object]]:
    """Models that become Ready, and models that fail, each with secrets of its own."""
    private = "hf://org/private"
    s3_parameters = {"endpoint": s3.endpoint, "region": "us-east-1"}
    oracle_uri = f"oci://n/{NAMESPACE}/b/{BUCKET}/o/tiny"
    oracle_parameters = {"auth_type": "UserPrincipal", "endpoint": oracle.endpoint}
    ready = [
        model("good", private, storageKey="good", path="/models/good", nodeSelector=HERE),
        model("inline", private, parameters={"token": INLINE}, path="/models/inline", nodeSelector=HERE),
        model("bucket", "s3://models/tiny", storageKey="s3", parameters=s3_parameters, nodeSelector=HERE),
        model("oracle", oracle_uri, storageKey="oracle", parameters=oracle_parameters, nodeSelector=HERE),
    ]
    failed = [
        model("wrong", private, storageKey="wrong", nodeSelector=HERE),
        model("malformed", private, storageKey="malformed", nodeSelector=HERE),
        model("inline-wrong", private, parameters={"token": WRONG}, nodeSelector=HERE),
        model("bucket-wrong", "s3://models/tiny", storageKey="s3-wrong", parameters=s3_parameters, nodeSelector=HERE),
        model("bucket-malformed", "gs://models/tiny", storageKey="malformed", nodeSelector=HERE),
        model("oracle-wrong", oracle_uri, storageKey="oracle-wrong", parameters=oracle_parameters, nodeSelector=HERE),
        model("oracle-malformed", oracle_uri, storageKey="malformed", parameters=oracle_parameters, nodeSelector=HERE),
    ]
    return ready, failed


def test_no_secret_of_a_model_is_stored_logged_or_shown_anywhere(
    fleet: Fleet, s3: SeaweedFs, oracle: OracleStore
) -> None:
    key = {name: value.decode() for name, value in oracle.secret().items()}
    # A line of the key: what is left of it wherever lines are broken otherwise.
    canaries = {
        "token of a Secret": GOOD,
        "wrong token": WRONG,
        "token of the parameters": INLINE,
        "malformed token": MALFORMED.splitlines()[0],
        "key of S3": S3_KEY,
        "wrong key of S3": WRONG_S3_KEY,
        "key of Oracle": key["private_key"].splitlines()[5],
    }
    broken = key | {"private_key": key["private_key"].replace("PRIVATE KEY", "CANARY KEY")}
    fleet.hub.add_model("org/private", {"README.md": "#\n"}, generated=generated_model(1 << 20), private=True)
    for token in (GOOD, INLINE):
        fleet.hub.add_token(token, ["org/private"])
    fleet.apply(
        secret("good", "ome", token=GOOD),
        secret("wrong", "ome", token=WRONG),
        secret("malformed", "ome", token=MALFORMED),
        secret("s3", "ome", AWS_ACCESS_KEY_ID="AKOWNER", AWS_SECRET_ACCESS_KEY=S3_KEY),
        secret("s3-wrong", "ome", AWS_ACCESS_KEY_ID="AKOWNER", AWS_SECRET_ACCESS_KEY=WRONG_S3_KEY),
        secret("oracle", "ome", **key),
        secret("oracle-wrong", "ome", **broken),
    )
    password = fleet.cluster.nats_identities.passwords["controller"]
    nats = (fleet.cluster.nats_authority, fleet.cluster.nats_url, "controller", password)
    ready, failed = models(fleet, s3, oracle)
    with eavesdropping(*nats) as heard:
        fleet.apply(*ready, *failed)
        for manifest in ready:
            fleet.await_state(manifest, "Ready", {"node-1"})
        for manifest in failed:
            fleet.until("it has failed", lambda manifest=manifest: state(fleet, manifest) == "Failed")  # type: ignore[misc]
        with fleet.status_service() as status:
            shown = status.ListModels(status_pb2.ListModelsRequest(), timeout=10).SerializeToString()
        stored = stored_messages(*nats)

    # The two ways that a secret takes, which also show that the canaries are looked for as they are sent: to a resolver
    # that lists the source, and to the gateway for a node that fetches from it.
    for name, value in canaries.items():
        subjects = heard.subjects_of(value.encode())
        assert subjects, f"{name} has never been handed out"
        assert all(subject.startswith(ANSWERS) for subject in subjects), f"{name} in {subjects}"
    assert any(subject.startswith("_INBOX_gateway.") for subject in heard.subjects_of(S3_KEY.encode()))
    assert {"KV_ome-desired", "KV_ome-observed", "KV_ome-plans", "KV_ome-resolved", "ome-resolve"} <= stored.keys()
    assert all(stored[f"KV_ome-{bucket}"] for bucket in ("desired", "observed", "plans", "resolved"))
    kept = {f"{stream} {subject}": content for stream, rows in stored.items() for subject, content in rows}
    others = {
        f"{subject} #{number}": content
        for number, (subject, content) in enumerate(heard.messages)
        if not subject.startswith(ANSWERS)
    }
    assert any("ome.resolve." in subject for subject in others)
    assert not leaks(canaries, kept)
    assert not leaks(canaries, others)
    assert not leaks(canaries, {"StatusService": shown, "audit log": fleet.cluster.audit_log.read_bytes()})
    assert not leaks(canaries, objects(fleet))
    assert not leaks(canaries, processes(fleet))
    assert not leaks(canaries, files(fleet))


def state(fleet: Fleet, manifest: Object) -> str:
    return str((fleet.get(manifest) or {}).get("status", {}).get("state", ""))

"""Sources behind a private certificate authority: every backend lists and fetches, and none does without being told."""

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from libs.chassis.settings import SettingsError
from services.fetcher.sources.trust import trust_also
from tests.support.google_store import GoogleStore
from tests.support.hub import Hub
from tests.support.modelscope import ModelScope
from tests.support.oracle_store import BUCKET, NAMESPACE, OracleStore
from tests.support.origin import OriginServer
from tests.support.seaweedfs import OWNER, SeaweedFs
from tests.support.tls_door import tls_door
from tests.support.transfers import contents_of, small_model
from tools.localcluster.certificates import Authority

MODEL = small_model()


@dataclass(frozen=True)
class Asked:
    """What the fetcher is told of a model."""

    uri: str
    parameters: dict[str, str] = field(default_factory=dict)
    credentials: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)


@dataclass
class Site:
    """A site with an authority of its own, which signed the certificate of all its servers."""

    folder: Path
    stack: ExitStack

    def __post_init__(self) -> None:
        self.authority = Authority(self.folder)
        pair = self.authority.issue_server("site", ("localhost",), ("127.0.0.1",))
        self.chain = self.folder / "chain.pem"
        self.chain.write_bytes(pair.certificate.read_bytes() + self.authority.certificate.read_bytes())
        self.key = pair.key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.chain, self.key)

    def hub(self) -> Asked:
        return Asked("hf://acme/tiny", settings={"hf_endpoint": self._hub().endpoint, "hf_transport": "http"})

    def xet(self) -> Asked:
        hub = self._hub()
        hub.configure(xet=True)
        return Asked("hf://acme/tiny", settings={"hf_endpoint": hub.endpoint, "hf_transport": "xet"})

    def _hub(self) -> Hub:
        hub = self.stack.enter_context(
            Hub(cache_dir=self.folder / "cache", certificate=(str(self.chain), str(self.key)))
        )
        hub.add_model("acme/tiny", dict(MODEL))
        return hub

    def modelscope(self) -> Asked:
        hub = self.stack.enter_context(ModelScope())
        hub.push("acme/tiny", MODEL)
        hub.storage_endpoint = self._door(hub.storage_endpoint)
        return Asked("ms://acme/tiny", settings={"modelscope_endpoint": self._door(hub.endpoint)})

    def oracle(self) -> Asked:
        oracle = self.stack.enter_context(OracleStore())
        for path, content in MODEL.items():
            oracle.put(f"acme/tiny/{path}", content)
        oracle.endpoint = self._door(oracle.endpoint)
        return Asked(
            f"oci://n/{NAMESPACE}/b/{BUCKET}/o/acme/tiny",
            {"auth_type": "UserPrincipal", "endpoint": oracle.endpoint},
            _text(oracle.secret()),
        )

    def google(self) -> Asked:
        google = self.stack.enter_context(GoogleStore())
        google.put("models", "acme/tiny", MODEL)
        google.endpoint = self._door(google.endpoint)
        return Asked("gs://models/acme/tiny", {"endpoint": google.endpoint}, _text(google.secret))

    def amazon(self) -> Asked:
        server = self.stack.enter_context(SeaweedFs(self.folder / "seaweedfs"))
        server.put("models", "acme/tiny", MODEL)
        return Asked("s3://models/acme/tiny", {"endpoint": self._door(server.endpoint)}, _text(OWNER))

    def vendor(self) -> Asked:
        server = self.stack.enter_context(OriginServer(tls=self.context))
        for path, content in MODEL.items():
            server.add(f"/files/{path}", content)
        files = [{"path": path, "size": len(content)} for path, content in MODEL.items()]
        server.add("/models/tiny/index.json", json.dumps({"files": files}).encode())
        driver = {
            "driver": "http",
            "index": f"{server.url}/{{type}}/{{path}}/index.json",
            "file": f"{server.url}/files/{{file}}",
        }
        drivers = self.folder / "drivers.json"
        drivers.write_text(json.dumps({"acme": driver}))
        return Asked("vendor://acme/models/tiny", settings={"vendor_drivers_file": str(drivers)})

    def _door(self, url: str) -> str:
        return self.stack.enter_context(tls_door(url, self.context))


def _text(secret: Any) -> dict[str, str]:
    return {name: value.decode() for name, value in secret.items()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "seaweedfs").mkdir()
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def fetch(asked: Asked, root: Path, authorities: str) -> str:
    """What a process says that fetches a model, with nothing else about certificates in its environment."""
    told = json.dumps({**asked.__dict__, "authorities": authorities})
    environment = {name: value for name, value in os.environ.items() if not name.endswith(("_BUNDLE", "_CERT_FILE"))}
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.trusting_fetcher", str(root)],
        input=told,
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize("backend", ["hub", "xet", "modelscope", "oracle", "google", "amazon", "vendor"])
def test_a_source_behind_a_private_authority_is_listed_and_fetched_when_that_is_trusted(
    backend: str, site: Site
) -> None:
    asked: Asked = getattr(site, backend)()

    refused = fetch(asked, site.folder / "refused", "")
    fetched = fetch(asked, site.folder / "fetched", str(site.authority.certificate))

    assert "fetched" not in refused, "the fault has not happened"
    assert fetched.splitlines()[-1] == f"fetched {len(MODEL)}"
    [artifact] = (site.folder / "fetched" / ".ome" / "artifacts").iterdir()
    assert contents_of(artifact) == MODEL


def test_public_authorities_are_trusted_as_before(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    public = Authority(other).certificate
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(public))

    trust_also(site.authority.certificate)

    bundle = Path(os.environ["REQUESTS_CA_BUNDLE"]).read_text()
    assert public.read_text() in bundle
    assert site.authority.certificate.read_text() in bundle


@pytest.mark.parametrize(
    "content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_certificates_is_refused_by_the_name_of_its_setting(content: str, tmp_path: Path) -> None:
    authorities = tmp_path / "ca.crt"
    authorities.write_text(content)

    with pytest.raises(SettingsError, match=r"OME_SOURCE_CA_FILE=.* holds no certificates"):
        trust_also(authorities)
    with pytest.raises(SettingsError, match=r"OME_SOURCE_CA_FILE=.* holds no certificates"):
        trust_also(tmp_path / "missing")

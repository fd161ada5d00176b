"""Transfers over TLS: who is trusted, and what a record layer does to ranges."""

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from libs.artifact.errors import InvalidValue
from libs.artifact.uri import VendorUri
from libs.chassis.errors import Unavailable
from services.fetcher.sources.vendor.drivers import HttpDriver
from services.fetcher.sources.vendor.http_driver import list_index
from services.fetcher.sources.vendor.source import http_source
from services.fetcher.stop import StopFlag
from services.fetcher.transfer import tls
from tests.faults.test_transfer_faults import PASSING
from tests.support.origin import Fault, OriginServer
from tests.support.transfers import QUICK, acquire, contents_of, manifest_of, new_store, serve, small_model

MODEL = small_model()
MANIFEST = manifest_of(MODEL)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "origin of a test")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture
def server(certificate: Path) -> Iterator[OriginServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with OriginServer(tls=context) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh_trust() -> Iterator[None]:
    tls.tls_context.cache_clear()
    yield
    tls.tls_context.cache_clear()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_certificate_that_the_environment_names_is_trusted(
    variable: str, certificate: Path, server: OriginServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(certificate))
    stall = server.inject(Fault("stall", "/model/model.safetensors", skip=2, after_bytes=40_000))
    cut = server.inject(Fault("cut", "/model/model.safetensors", skip=5, after_bytes=100))
    with new_store(tmp_path / "models") as store:
        acquire(store, MANIFEST, serve(server, MODEL), StopFlag(), limits=QUICK)
        assert contents_of(store.artifact_path(MANIFEST.digest)) == MODEL
    assert (stall.fired, cut.fired) == (1, 1)


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_a_passing_fault_ends_in_the_right_bytes_over_tls(
    fault: Fault, certificate: Path, server: OriginServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    fault = server.inject(replace(fault))
    with new_store(tmp_path / "models") as store:
        acquire(store, MANIFEST, serve(server, MODEL), StopFlag(), limits=QUICK)
        assert contents_of(store.artifact_path(MANIFEST.digest)) == MODEL
    assert fault.fired == fault.times


def test_an_origin_of_an_older_version_of_tls_is_read(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with OriginServer(tls=context) as old, new_store(tmp_path / "models") as store:
        acquire(store, MANIFEST, serve(old, MODEL), StopFlag(), limits=QUICK)
        assert contents_of(store.artifact_path(MANIFEST.digest)) == MODEL


def test_an_unknown_certificate_is_not_trusted_nor_tried_again(server: OriginServer, tmp_path: Path) -> None:
    with new_store(tmp_path / "models") as store, pytest.raises(Unavailable, match="is not trusted"):
        acquire(store, MANIFEST, serve(server, MODEL), StopFlag(), limits=QUICK)
    assert server.connections <= QUICK.connections
    assert server.requests == []


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_said_and_no_crash(
    content: str | None, server: OriginServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content:
        bundle.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with new_store(tmp_path / "models") as store, pytest.raises(Unavailable, match="TLS handshake"):
        acquire(store, MANIFEST, serve(server, MODEL), StopFlag(), limits=replace(QUICK, attempts=2))


def test_a_redirect_from_https_to_http_is_not_followed(
    certificate: Path, server: OriginServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with OriginServer() as plain, new_store(tmp_path / "models") as store:
        origin = serve(server, MODEL)
        server.redirect("/model/config.json", f"{plain.url}/config.json")
        with pytest.raises(Unavailable, match="from https to http"):
            acquire(store, MANIFEST, origin, StopFlag(), limits=QUICK)
        assert plain.requests == []


def test_an_origin_that_speaks_no_tls_is_unavailable(tmp_path: Path) -> None:
    limits = replace(QUICK, attempts=2, connect_seconds=0.3)
    with OriginServer() as plain, new_store(tmp_path / "models") as store:
        origin = serve(plain, MODEL)
        secure = replace(origin, base_url=origin.base_url.replace("http:", "https:"))
        with pytest.raises(Unavailable, match="TLS handshake"):
            acquire(store, MANIFEST, secure, StopFlag(), limits=limits)


def test_the_index_of_a_vendor_is_trusted_like_content_and_does_not_lead_to_http(
    certificate: Path, server: OriginServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add("/m", b'{"files": [{"path": "a", "size": 1, "url": "http://127.0.0.1/a"}]}')
    source = http_source(VendorUri("acme", "models", "m"), {}, {}, HttpDriver(f"{server.url}/{{path}}"))
    with pytest.raises(Unavailable, match="is not trusted"):
        list_index(source, StopFlag())
    assert server.requests == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls.tls_context.cache_clear()
    with pytest.raises(InvalidValue, match="from https to http"):
        list_index(source, StopFlag())

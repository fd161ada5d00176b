"""Where programs at Oracle get their identity, on loopback.

That is the metadata service of an instance, the federation endpoint that exchanges the instance's certificate for a
token, and the exchange for ServiceAccount tokens in a cluster of OKE. Speaks the protocols of the SDK's own signers,
which find it by their documented variables; the federation endpoint is reached at its real name through a proxy.
Certificates, signatures and tokens are checked as the services do.
"""

import base64
import hashlib
import ipaddress
import json
import random
import re
import ssl
import threading
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from tests.support.http_handler import KeptAliveHandler
from tests.support.oracle_store import TENANCY, OracleStore

REGION = "us-phoenix-1"
_FEDERATION_HOST = f"auth.{REGION}.oraclecloud.com"
# The SDK asks at no other port.
_PROXYMUX_PORT = 12250
_TOKEN_SECONDS = 3600
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class OracleIdentity:
    """One instance and one cluster, whose identities a store accepts. Use as a context manager.

    refuse makes exchanges fail with a status from now on; exchanged counts those that succeeded.
    """

    def __init__(self, store: OracleStore, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._authority = _Certificate("authority")
        self._intermediate = _Certificate("intermediate", self._authority)
        self._leaf = _Certificate(f"opc-tenant:{TENANCY}", self._intermediate)
        self._account_token = _token("system:serviceaccount:ome:fetcher")
        self._refusal: tuple[int, str] | None = None
        self.refused = 0
        self.exchanged = 0
        self._federation = self._tls(_FEDERATION_HOST)
        self._servers = ExitStack()
        self._environment: dict[str, str] = {}

    def __enter__(self) -> "OracleIdentity":
        authority = self._folder / "ca.crt"
        authority.write_bytes(self._authority.pem)
        token = self._folder / "token"
        token.write_text(self._account_token)
        plain = self._serve("127.0.0.1", 0, None)
        # The port is given, so that it is the address that must be this test's own.
        cluster = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        self._serve(cluster, _PROXYMUX_PORT, self._tls(cluster))
        self._environment = {
            "OCI_METADATA_BASE_URL": f"http://127.0.0.1:{plain}/opc/v2",
            "HTTPS_PROXY": f"http://127.0.0.1:{plain}",
            "NO_PROXY": "127.0.0.0/8",
            "REQUESTS_CA_BUNDLE": str(authority),
            "KUBERNETES_SERVICE_HOST": cluster,
            "OCI_KUBERNETES_SERVICE_ACCOUNT_CERT_PATH": str(authority),
            "OCI_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH": str(token),
            "OCI_RESOURCE_PRINCIPAL_REGION": REGION,
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._servers.close()

    def environment(self) -> dict[str, str]:
        """The variables of a process on the instance, in a pod of the cluster."""
        return dict(self._environment)

    def refuse(self, status: int, code: str) -> None:
        """Exchange nothing any more."""
        self._refusal = status, code

    def relent(self) -> None:
        """Exchange again."""
        self._refusal = None

    def _serve(self, address: str, port: int, tls: ssl.SSLContext | None) -> int:
        server = ThreadingHTTPServer((address, port), self._handler())
        server.daemon_threads = True
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self._servers.callback(server.server_close)
        self._servers.callback(thread.join)
        self._servers.callback(server.shutdown)
        return int(server.server_address[1])

    def _tls(self, name: str) -> ssl.SSLContext:
        certificate = _Certificate(name, self._authority)
        chain, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        chain.write_bytes(certificate.pem)
        key.write_bytes(certificate.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        return context

    def _metadata(self, path: str) -> bytes | None:
        return {
            "/opc/v2/instance/region": b"phx",
            "/opc/v2/identity/cert.pem": self._leaf.pem,
            "/opc/v2/identity/key.pem": self._leaf.key_pem,
            "/opc/v2/identity/intermediate.pem": self._intermediate.pem,
        }.get(path)

    def _exchange(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if self._refusal:
            self.refused += 1
            return self._refusal[0], json.dumps({"code": self._refusal[1], "message": "refused"}).encode()
        asked = json.loads(body)
        if path == "/resourcePrincipalSessionTokens":
            if headers.get("authorization") != f"Bearer {self._account_token}":
                return 401, b"{}"
            token = self._accepted_token(asked["podKey"])
            return 200, base64.b64encode(json.dumps({"token": f"ST${token}"}).encode())
        if path == "/v1/x509" and headers.get("host") == _FEDERATION_HOST:
            try:
                self._check_instance(asked, headers, body)
            except (InvalidSignature, ValueError, TypeError, KeyError):
                return 401, json.dumps({"code": "NotAuthenticated", "message": "refused"}).encode()
            return 200, json.dumps({"token": self._accepted_token(asked["publicKey"])}).encode()
        return 404, b"{}"

    def _check_instance(self, asked: dict[str, object], headers: dict[str, str], body: bytes) -> None:
        """Who asks holds the key of a certificate that was issued for an instance."""
        certificate = x509.load_der_x509_certificate(base64.b64decode(str(asked["certificate"])))
        certificate.verify_directly_issued_by(self._intermediate.certificate)
        if asked["intermediateCertificates"] != [_bare(self._intermediate.pem)]:
            raise ValueError("another intermediate certificate")
        parameters = dict(_PARAMETER.findall(headers["authorization"]))
        fingerprint = ":".join(f"{byte:02X}" for byte in certificate.fingerprint(hashes.SHA1()))
        if parameters["keyId"] != f"{TENANCY}/fed-x509/{fingerprint}":
            raise ValueError("the signature is somebody else's")
        if headers["x-content-sha256"] != base64.b64encode(hashlib.sha256(body).digest()).decode():
            raise ValueError("another body was signed")
        signed = parameters["headers"].split()
        if not {"date", "(request-target)", "x-content-sha256"} <= set(signed):
            raise ValueError("too little was signed")
        values = {**headers, "(request-target)": "post /v1/x509"}
        key = certificate.public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise TypeError("another kind of key")
        text = "\n".join(f"{name}: {values[name]}" for name in signed)
        key.verify(base64.b64decode(parameters["signature"]), text.encode(), padding.PKCS1v15(), hashes.SHA256())

    def _accepted_token(self, public_key: str) -> str:
        key = serialization.load_der_public_key(base64.b64decode(public_key))
        if not isinstance(key, rsa.RSAPublicKey):
            raise TypeError("another kind of key")
        self.exchanged += 1
        token = _token(f"ocid1.instance.{self.exchanged}")
        self._store.accept(f"ST${token}", key)
        return token

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        identity = self

        class Requests(KeptAliveHandler):
            def do_CONNECT(self) -> None:
                if self.path != f"{_FEDERATION_HOST}:443":
                    self._send(403, b"")
                    return
                self.send_response(200)
                self.end_headers()
                self.wfile.flush()
                # From here on the requests of the same connection are those that come through the tunnel.
                self.connection = identity._federation.wrap_socket(self.connection, server_side=True)
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
                self.close_connection = False

            def finish(self) -> None:
                super().finish()
                self.connection.close()

            def do_GET(self) -> None:
                found = identity._metadata(self.path)
                if self.headers.get("Authorization") != "Bearer Oracle":
                    self._send(401, b"")
                else:
                    self._send(404 if found is None else 200, found or b"")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                self._send(*identity._exchange(self.path, headers, body))

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()

            def log_message(self, format: str, *arguments: object) -> None:
                return

        return Requests


class _Certificate:
    """A certificate and its key, signed by another one or by itself."""

    def __init__(self, name: str, issuer: "_Certificate | None" = None) -> None:
        tenant = name.startswith("opc-")
        # Instances sign with RSA; the others are made faster.
        self.key = rsa.generate_private_key(65537, 2048) if tenant else ec.generate_private_key(ec.SECP256R1())
        attribute = NameOID.ORGANIZATIONAL_UNIT_NAME if tenant else NameOID.COMMON_NAME
        subject = x509.Name([x509.NameAttribute(attribute, name)])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name in ("authority", "intermediate"), path_length=None), True)
        )
        with suppress(ValueError):
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), False
            )
        if "." in name and not name[0].isdigit():
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        self.certificate: x509.Certificate = builder.sign((issuer or self).key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)
        self.key_pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def _token(subject: str) -> str:
    """A token as the signers read it: they look at its times only."""
    now = int(time.time())
    claims = json.dumps({"sub": subject, "iat": now, "exp": now + _TOKEN_SECONDS}).encode()
    parts = (b'{"alg":"none"}', claims, b"")
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def _bare(pem: bytes) -> str:
    return "".join(line for line in pem.decode().splitlines() if not line.startswith("-----"))

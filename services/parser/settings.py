"""Settings of the parser."""

from dataclasses import dataclass
from pathlib import Path

from libs.chassis.logs import FORMATS, LEVELS
from libs.chassis.settings import setting


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the parser reads from its environment."""

    listen_host: str = setting("0.0.0.0", help="address to listen on; :: for all")
    grpc_port: int = setting(9090, help="port of ParserService", minimum=0)
    grpc_tls_dir: Path = setting(
        Path("/var/run/secrets/tls"),
        help="directory with tls.crt, tls.key, and in ca.crt the authority that callers must be certified by",
    )
    grpc_plaintext: bool = setting(
        False, help="true serves gRPC without TLS: anybody may call, and whoever is on the network reads along"
    )
    http_port: int = setting(8080, help="port of /healthz, /readyz and /metrics", minimum=0)
    log_level: str = setting("info", help="least severe level to log", choices=LEVELS)
    log_format: str = setting("json", help="form of log lines", choices=FORMATS)

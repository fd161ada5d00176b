"""Settings of the parser."""

from dataclasses import dataclass

from libs.chassis.logs import FORMATS, LEVELS
from libs.chassis.settings import setting


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the parser reads from its environment."""

    listen_host: str = setting("0.0.0.0", help="address to listen on")
    grpc_port: int = setting(9090, help="port of ParserService", minimum=0)
    http_port: int = setting(8080, help="port of /healthz, /readyz and /metrics", minimum=0)
    log_level: str = setting("info", help="least severe level to log", choices=LEVELS)
    log_format: str = setting("json", help="form of log lines", choices=FORMATS)

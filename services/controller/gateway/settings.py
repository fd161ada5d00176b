"""Settings of the gateway, which runs beside the controller."""

from dataclasses import dataclass
from pathlib import Path

from libs.chassis.logs import FORMATS, LEVELS
from libs.chassis.settings import setting


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the gateway reads from its environment."""

    namespace: str = setting(help="namespace of the operator, in which the fetchers' ServiceAccount is")
    nats_url: str = setting(help="address of the NATS server, such as nats://nats.ome:4222")
    nats_user: str = setting("gateway", help="user name in the fleet's account of the NATS server")
    nats_password_file: Path = setting(help="file with the password of nats_user")
    nats_nodes_user: str = setting("gateway-nodes", help="user name in the nodes' account of the NATS server")
    nats_nodes_password_file: Path = setting(help="file with the password of nats_nodes_user")
    nats_issuer_seed_file: Path = setting(help="file with the account seed (SA…) that signs the fetchers' identities")
    nats_account: str = setting("NODES", help="NATS account of the fetchers, which has no JetStream")
    nats_ca_file: Path | None = setting(None, help="file with the CA of the NATS server; unset for no TLS")
    service_account_dir: Path = setting(
        Path("/var/run/secrets/kubernetes.io/serviceaccount"), help="directory with token and ca.crt"
    )
    listen_host: str = setting("127.0.0.1", help="address to listen on; :: for all")
    http_port: int = setting(8081, help="port of /healthz, /readyz and /metrics", minimum=0)
    log_level: str = setting("info", help="least severe level to log", choices=LEVELS)
    log_format: str = setting("json", help="form of log lines", choices=FORMATS)
    fetcher_service_account: str = setting("ome-fetcher", help="ServiceAccount that fetchers run as")

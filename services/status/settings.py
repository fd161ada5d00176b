"""Settings of the status service, from the environment. deploy/helm/status sets each; a test holds both together."""

from dataclasses import dataclass
from pathlib import Path

from libs.chassis.logs import FORMATS, LEVELS
from libs.chassis.settings import setting

# Takes the place of an audience: tokens are those that are meant for the API server.
API_SERVER = "api-server"


@dataclass(frozen=True)
class Settings:
    """What a replica must be told."""

    namespace: str = setting(help="Namespace of OME: its Lease and the ConfigMaps of the nodes.")
    pod_name: str = setting(help="Name of this Pod: the identity that holds the Lease.")
    nats_url: str = setting(help="Address of nats-server, such as nats://nats.ome.svc:4222.")
    nats_password_file: Path = setting(help="File with the password at nats-server.")
    nats_user: str = setting("status", help="User name at nats-server.")
    nats_ca_file: Path | None = setting(None, help="Certificate authority of nats-server, when it speaks TLS.")
    service_account_dir: Path = setting(
        Path("/var/run/secrets/kubernetes.io/serviceaccount"), help="Directory with token and ca.crt."
    )
    lease_seconds: float = setting(15.0, minimum=1, help="A leader that is silent for so long has lost the Lease.")
    node_unreachable_seconds: float = setting(
        45.0, minimum=0.1, help="A node whose fetcher is silent for so long is reported as unreachable."
    )
    resync_seconds: float = setting(1800.0, minimum=1, help="Every model and node is looked at again after so long.")
    listen_host: str = setting("127.0.0.1", help="Address to listen on; :: for all.")
    grpc_port: int = setting(9090, minimum=0, help="Port of StatusService.")
    grpc_tls_dir: Path = setting(
        Path("/var/run/secrets/tls"), help="Directory with tls.crt and tls.key, by which callers know StatusService."
    )
    grpc_plaintext: bool = setting(
        False, help="true serves gRPC without TLS: whoever is on the network reads along, tokens of callers included."
    )
    http_port: int = setting(8080, minimum=0, help="Port of /healthz, /readyz and /metrics.")
    page_enabled: bool = setting(True, help="false serves no web page.")
    page_port: int = setting(8443, minimum=0, help="Port of the web page, over TLS unless OME_GRPC_PLAINTEXT is true.")
    page_proxy_ranges: tuple[str, ...] = setting(
        (), help="Networks of proxies whose headers say who looks at the page, separated by commas; none if empty."
    )
    page_proxy_user_header: str = setting("X-Forwarded-User", help="Header of such a proxy with the name of the user.")
    page_proxy_groups_header: str = setting(
        "X-Forwarded-Groups", help="Header of such a proxy with the user's groups, separated by commas."
    )
    webhooks_enabled: bool = setting(
        False, help="true takes webhooks of hubs, by which models that follow look at once."
    )
    webhooks_port: int = setting(8444, minimum=0, help="Port for webhooks, over TLS as the page is.")
    webhooks_secret_file: Path = setting(
        Path("/var/run/secrets/webhooks/secret"), help="File with the secret that hubs show in X-Webhook-Secret."
    )
    callers: str = setting(
        "authenticated",
        choices=("authenticated", "anyone"),
        help="Who may call StatusService: who shows a valid token, or anyone who reaches the port.",
    )
    audience: str = setting("ome-status", help=f"Audience of callers' tokens; {API_SERVER} stands for its own.")
    permitted_seconds: float = setting(
        60.0, minimum=1, help="What a caller may see is asked of the API server again after so long."
    )
    calls_per_second: float = setting(20.0, minimum=0.1, help="Calls of StatusService by one caller.")
    watches_per_caller: int = setting(32, minimum=1, help="Watches of StatusService by one caller at a time.")
    log_level: str = setting("info", choices=LEVELS, help="Least severe level that is logged.")
    log_format: str = setting("json", choices=FORMATS, help="Form of a log line.")
    traces_endpoint: str = setting(
        "", help="Address of a collector that takes traces by OTLP over gRPC, such as http://otel:4317; none if empty."
    )
    traces_ratio: float = setting(1.0, help="Share of the traces that is sent, from 0 to 1.", minimum=0)

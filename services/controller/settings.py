"""Settings of the controller."""

from dataclasses import dataclass
from pathlib import Path

from libs.chassis.logs import FORMATS, LEVELS
from libs.chassis.settings import setting
from services.controller.budgets import BUDGET_PATTERN


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the controller reads from its environment."""

    namespace: str = setting(help="namespace of OME: its Lease and the Secrets of cluster-scoped models")
    pod_name: str = setting(help="name of this Pod: the identity that holds the Lease")
    nats_url: str = setting(help="address of the NATS server, such as nats://nats.ome:4222")
    nats_user: str = setting("controller", help="user name at the NATS server")
    nats_password_file: Path = setting(help="file with the password at the NATS server")
    nats_ca_file: Path | None = setting(None, help="file with the CA of the NATS server; unset for no TLS")
    nats_replicas: int = setting(3, help="copies of each stream: 1 where there is one NATS server", minimum=1)
    nats_bucket_bytes: int = setting(
        1 << 30, help="what a bucket with a key per model and node may hold; others may hold a quarter", minimum=1 << 20
    )
    service_account_dir: Path = setting(
        Path("/var/run/secrets/kubernetes.io/serviceaccount"), help="directory with token and ca.crt"
    )
    listen_host: str = setting("127.0.0.1", help="address to listen on; :: for all")
    http_port: int = setting(8080, help="port of /healthz, /readyz and /metrics", minimum=0)
    log_level: str = setting("info", help="least severe level to log", choices=LEVELS)
    log_format: str = setting("json", help="form of log lines", choices=FORMATS)
    traces_endpoint: str = setting(
        "", help="address of a collector that takes traces by OTLP over gRPC, such as http://otel:4317; none if empty"
    )
    traces_ratio: float = setting(1.0, help="share of the traces that is sent, from 0 to 1", minimum=0)
    parser_image: str = setting(help="image of the parser, which the Jobs that look into volumes run")
    lease_seconds: float = setting(15.0, help="a leader that is silent for so long has lost the Lease", minimum=1)
    heartbeat_ttl_seconds: float = setting(30.0, help="a fetcher without a heartbeat for so long is away", minimum=1)
    node_unreachable_seconds: float = setting(
        300.0, help="deletion no longer waits for a node that has been unreachable for so long", minimum=0
    )
    resync_seconds: float = setting(1800.0, help="every model is looked at again after so long", minimum=1)
    retry_initial_seconds: float = setting(5.0, help="delay after the first failed listing of a source", minimum=0.01)
    retry_max_seconds: float = setting(600.0, help="longest delay between listings of a failing source", minimum=0.01)
    follow_seconds: float = setting(
        3600.0, help="a source is listed again after so long for models that follow it and say nothing else", minimum=1
    )
    volume_inspect_seconds: float = setting(
        3600.0, help="a volume in which a model was found is looked at again after so long", minimum=1
    )
    secret_namespaces: tuple[str, ...] = setting(
        (), help="namespaces, besides OME's, in which cluster-scoped models may name Secrets"
    )
    reserved_secrets: tuple[str, ...] = setting(
        (), help="Secrets in OME's namespace that no model may name, such as passwords of services"
    )
    namespaced_paths: str = setting(
        "any",
        choices=("any", "own"),
        help="where BaseModels may lie on nodes: at any path, or in their own folder below a model root only",
    )
    pod_names: str = setting(
        "all",
        choices=("all", "own"),
        help="Pods that a model's status names of those that use it: for a cluster-scoped model all, or none",
    )
    secret_check_seconds: float = setting(
        2.0, help="how often a Secret is looked at while a model that names it fails", minimum=0.1
    )
    hf_endpoint: str = setting(
        "https://huggingface.co",
        name="HF_ENDPOINT",
        help="address of the Hugging Face Hub that the fetchers use: it may get the Secrets of hf:// models",
    )
    modelscope_endpoint: str = setting(
        "https://www.modelscope.cn",
        name="MODELSCOPE_ENDPOINT",
        help="address of ModelScope that the fetchers use: it may get the Secrets of ms:// models",
    )
    identity_namespaces: tuple[str, ...] = setting(
        (), help="namespaces whose BaseModels may use the cloud identity of OME's Pods, as in team-a or team-b=s3://b-*"
    )
    namespace_budgets: tuple[str, ...] = setting(
        (),
        pattern=BUDGET_PATTERN,
        help="bytes that BaseModels of a namespace may take on all nodes together, as in team-a=2Ti; * for all others",
    )
    insecure_hosts: tuple[str, ...] = setting(
        (), help="hosts to which credentials may go over plain http, if a model's endpoint says so; *.suffix for many"
    )

"""Settings of the fetcher, read from the environment. deploy/helm/fetcher sets them; a test holds both together."""

from dataclasses import dataclass
from pathlib import Path

from libs.chassis.logs import FORMATS, LEVELS
from libs.chassis.settings import setting
from services.fetcher.sources.bounds import MOST_FILES
from services.fetcher.sources.hub.source import Transport


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """What the backends must be told, wherever they list or fetch."""

    hf_endpoint: str = setting(
        "https://huggingface.co", name="HF_ENDPOINT", help="Address of the Hugging Face Hub or of a mirror of it."
    )
    hf_transport: str = setting(
        Transport.AUTO,
        choices=tuple(Transport),
        help="How large files come from the Hub: over http, over xet where they can, or auto: HTTP first, else Xet.",
    )
    modelscope_endpoint: str = setting(
        "https://www.modelscope.cn",
        name="MODELSCOPE_ENDPOINT",
        help="Address of ModelScope, of its international site, or of a mirror of it.",
    )
    source_ca_file: Path | None = setting(
        None, help="File with certificate authorities (PEM) that sources may have besides the public ones."
    )
    egress_allow: tuple[str, ...] = setting(
        (),
        help="Networks and hosts that models may reach besides public addresses, such as 10.1.0.0/16 or *.lab.example.",
    )
    egress_cluster_ranges: tuple[str, ...] = setting(
        (), help="Networks of this cluster, which no model may reach: of its Services, its Pods and its API servers."
    )
    kubernetes_service_host: str = setting(
        "", name="KUBERNETES_SERVICE_HOST", help="Address of the API server, which no model may reach."
    )
    vendor_drivers_file: Path | None = setting(
        None, help="JSON file with the driver of each vendor of vendor:// models; without one they are read in place."
    )
    listing_files: int = setting(MOST_FILES, minimum=1, help="Files that a source may list for one model.")


@dataclass(frozen=True, kw_only=True)
class ListingSettings(SourceSettings):
    """What the processes that list must be told besides; the resolver starts them."""

    listing_memory_bytes: int = setting(
        512 << 20, minimum=16 << 20, help="Memory that one listing may take, and a vendor's program that makes it."
    )
    listing_seconds: float = setting(120.0, minimum=1, help="Time after which a listing is ended.")
    log_level: str = setting("info", choices=LEVELS, help="Least severe level that is logged.")
    log_format: str = setting("json", choices=FORMATS, help="Form of a log line.")


@dataclass(frozen=True, kw_only=True)
class Settings(SourceSettings):
    """What a fetcher must be told; everything else it learns from its assignments."""

    node_name: str = setting(help="Name of the Kubernetes node that this fetcher serves.")
    nats_url: str = setting(help="Address of nats-server, such as nats://nats.ome.svc:4222.")
    host_root: Path = setting(help="Directory below which the node's file system is mounted, such as /host.")
    parser_address: str = setting(help="host:port of the parser's gRPC service.")
    parser_tls_dir: Path = setting(
        Path("/var/run/secrets/parser-tls"),
        help="Directory with tls.crt and tls.key for the parser, and ca.crt by which the parser is known.",
    )
    parser_plaintext: bool = setting(
        False, help="true calls the parser without TLS: whoever is on the network reads along, or answers instead."
    )
    nats_token_file: Path | None = setting(
        None, help="File with the ServiceAccount token (audience nats) that identifies the node to NATS."
    )
    nats_ca_file: Path | None = setting(None, help="Certificate authority of nats-server, when it speaks TLS.")
    model_roots: tuple[str, ...] = setting(
        ("/models",),
        help="Directories, as the node sees them, below which models may lie; the first takes models without a path.",
    )
    pool: str = setting("default", help="Pool of resolvers that can list the sources of this node's models.")
    parallel_downloads: int = setting(
        2, minimum=1, help="Artifacts that are transferred at the same time; small ones have one more slot."
    )
    small_model_bytes: int = setting(
        1 << 30, minimum=0, help="Artifacts below this size may take the additional slot; 0 does without it."
    )
    priority_across_namespaces: int = setting(
        0,
        minimum=0,
        help="How much of a namespaced model's priority counts beside models of other namespaces, at the most.",
    )
    least_bytes_per_second: int = setting(
        65536,
        minimum=0,
        help="A transfer that is slower gives up its slot when others wait, and goes on later; 0 permits any rate.",
    )
    slow_seconds: float = setting(300.0, minimum=1, help="Time over which a transfer is slower than that.")
    bandwidth_bytes_per_second: int = setting(
        0, minimum=0, help="Content that the node receives per second, all transfers together; 0 sets no limit."
    )
    connections_per_origin: int = setting(
        16, minimum=0, help="Connections to one host and port, all transfers together; 0 sets no limit."
    )
    heartbeat_seconds: float = setting(10.0, minimum=0.1, help="Interval between two heartbeats.")
    retry_initial_seconds: float = setting(2.0, minimum=0.01, help="Delay before the first retry of a failed transfer.")
    retry_max_seconds: float = setting(300.0, minimum=0.01, help="Longest delay between two retries.")
    orphan_grace_seconds: float = setting(
        3600.0,
        minimum=0.0,
        help="How long something on disk stays that no object of the Kubernetes API asks for.",
    )
    in_use_grace_seconds: float = setting(
        86400.0,
        minimum=0.0,
        help="How long Pods may hold a copy that is to go, such as an earlier revision; 0 removes it at once.",
    )
    unselected_grace_seconds: float = setting(
        60.0,
        minimum=0.0,
        help="How long a model stays on a node that its selectors no longer match, in case they do again.",
    )
    high_watermark_percent: float = setting(
        85.0,
        minimum=1.0,
        help="Share of a file system above which models that may be evicted give up their copies; 100 for never.",
    )
    low_watermark_percent: float = setting(
        75.0, minimum=0.0, help="Share of a file system down to which they do, and up to which models come back."
    )
    reserved_seconds: float = setting(
        30 * 86400.0,
        minimum=0.0,
        help="How long the files of a deleted model stay that its label keeps on the node; 0 for ever.",
    )
    recheck_seconds: float = setting(
        300.0, minimum=0.1, help="Interval at which a held model's files are compared with its manifest by size."
    )
    scrub_interval_seconds: float = setting(
        86400.0, minimum=1.0, help="Pause between two passes in which every held file is read and hashed."
    )
    scrub_bytes_per_second: float = setting(
        20e6, minimum=0.0, help="How fast a pass reads, so that it stays out of the way; 0 turns it off."
    )
    listen_host: str = setting("127.0.0.1", help="Address to serve health and metrics on; :: for all.")
    http_port: int = setting(8080, minimum=0, help="Port of /healthz, /readyz and /metrics.")
    log_level: str = setting("info", choices=LEVELS, help="Least severe level that is logged.")
    log_format: str = setting("json", choices=FORMATS, help="Form of a log line.")
    traces_endpoint: str = setting(
        "", help="Address of a collector that takes traces by OTLP over gRPC, such as http://otel:4317; none if empty."
    )
    traces_ratio: float = setting(1.0, help="Share of the traces that is sent, from 0 to 1.", minimum=0)

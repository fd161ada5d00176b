"""Prometheus metrics of the fetcher, in the process-wide registry that /metrics shows."""

from prometheus_client import Counter, Gauge, Histogram

TRANSFERS = Counter(
    "ome_fetcher_transfers_total", "Transfers that ended, by scheme of the source and result.", ["backend", "result"]
)
TRANSFERRED_BYTES = Counter(
    "ome_fetcher_transferred_bytes_total",
    "Bytes that transfers brought until they ended, without those of earlier attempts.",
    ["backend", "result"],
)
TRANSFER_SECONDS = Histogram(
    "ome_fetcher_transfer_seconds",
    "Duration of transfers, from the free slot to their end.",
    ["backend", "result"],
    buckets=(0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000),
)
TRANSFERS_RUNNING = Gauge("ome_fetcher_transfers_running", "Transfers under way.")
MODELS = Gauge("ome_fetcher_models", "Models assigned to the node, by phase.", ["phase"])
RESOLVES = Counter("ome_fetcher_resolves_total", "Sources listed, by reason of failure or Ok.", ["result"])
PARSES = Counter("ome_fetcher_parses_total", "Requests to the parser, by reason of failure or Ok.", ["result"])
ROOT_FREE_BYTES = Gauge("ome_fetcher_root_free_bytes", "Free space of a model root.", ["root"])
ROOT_USABLE = Gauge("ome_fetcher_root_usable", "1 if models can lie in a model root, and 0 if not.", ["root"])
SCRUBS = Counter("ome_fetcher_scrubs_total", "Artifacts that were read and hashed anew, by result.", ["result"])
# A series that begins with its first damage shows no increase, so the alert would not see it.
for _result in ("Ok", "Damaged", "Skipped"):
    SCRUBS.labels(result=_result)
VERIFIED_BYTES = Counter(
    "ome_fetcher_verified_bytes_total", "Bytes of artifacts on disk that were read and hashed anew."
)
TRANSFERS_QUEUED = Gauge("ome_fetcher_transfers_queued", "Transfers that wait for a free slot.")
QUEUE_AGE_SECONDS = Gauge(
    "ome_fetcher_queue_age_seconds", "For how long the oldest of the transfers has waited that wait for a free slot."
)
THROTTLED_SECONDS = Counter(
    "ome_fetcher_throttled_seconds_total",
    "Time that connections waited for the bandwidth limit of the node, summed over connections.",
)
ORIGIN_CONNECTIONS = Gauge("ome_fetcher_origin_connections", "Open connections that fetch content.", ["origin"])

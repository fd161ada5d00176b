"""Metrics of the status service for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

WRITES = Counter(
    "ome_status_writes_total",
    "Writes to the Kubernetes API; reason is empty on success.",
    ["verb", "resource", "reason"],
)
LEADER = Gauge("ome_status_leader", "1 on the replica that writes.")
MODELS = Gauge("ome_status_models", "Models that are known.")
WATCHERS = Gauge("ome_status_watchers", "Open WatchModels calls.")
PAGE_VIEWERS = Gauge("ome_status_page_viewers", "Open pages that are kept current.")
REFUSED_CALLS = Counter(
    "ome_status_refused_calls_total", "Calls of StatusService by strangers and beyond a caller's share.", ["why"]
)
FOLD_SECONDS = Histogram(
    "ome_status_fold_seconds", "Time to fold one model.", buckets=(0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5)
)

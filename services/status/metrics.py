"""Metrics of the status service for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

WRITES = Counter(
    "ome_status_writes_total",
    "Writes to the Kubernetes API; reason is empty on success.",
    ["verb", "resource", "reason"],
)
LEADER = Gauge("ome_status_leader", "1 on the replica that writes.")
MODELS = Gauge("ome_status_models", "Models that are known.")
MODELS_IN_STATE = Gauge("ome_status_models_in_state", "Models, by lifecycle.", ["state"])
FAILURES = Gauge("ome_status_failures", "Nodes on which a model has failed, by reason.", ["reason"])
NODES = Gauge(
    "ome_status_nodes", "Nodes that hold models or are meant to, by whether their fetcher reports.", ["state"]
)
READY_SECONDS = Histogram(
    "ome_status_ready_seconds",
    "Time from the creation of a model, or from the loss of its last copy, until a node holds it.",
    buckets=(1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200),
)
WATCHERS = Gauge("ome_status_watchers", "Open WatchModels calls.")
PAGE_VIEWERS = Gauge("ome_status_page_viewers", "Open pages that are kept current.")
REFUSED_CALLS = Counter(
    "ome_status_refused_calls_total", "Calls of StatusService by strangers and beyond a caller's share.", ["why"]
)
HUB_EVENTS = Counter("ome_status_hub_events_total", "Webhooks of hubs, by what came of them.", ["outcome"])
FOLD_SECONDS = Histogram(
    "ome_status_fold_seconds", "Time to fold one model.", buckets=(0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5)
)

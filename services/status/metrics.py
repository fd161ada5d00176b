"""Metrics of the status service for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

API_REQUESTS = Counter(
    "ome_status_api_requests_total",
    "Requests to the Kubernetes API; code 0 had no answer.",
    ["verb", "resource", "code"],
)
LEADER = Gauge("ome_status_leader", "1 on the replica that writes.")
MODELS = Gauge("ome_status_models", "Models that are known.")
WATCHERS = Gauge("ome_status_watchers", "Open WatchModels calls.")
FOLD_SECONDS = Histogram(
    "ome_status_fold_seconds", "Time to fold one model.", buckets=(0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5)
)

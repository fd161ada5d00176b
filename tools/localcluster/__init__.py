"""A Kubernetes cluster with NATS on this machine, without root or containers. `LocalCluster` is the way in."""

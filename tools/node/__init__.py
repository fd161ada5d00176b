"""Real nodes on one machine: kubelet, containerd and runc in namespaces of their own, for the end-to-end tests."""

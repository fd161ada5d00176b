"""Tests on real nodes, which `make e2e` runs: what a real kubelet does with the images and charts as shipped."""

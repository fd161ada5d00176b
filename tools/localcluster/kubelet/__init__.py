"""The process kubelet: one process stands in for the kubelets of all nodes and runs each Pod as local processes.

The only part of the cluster that is not the real thing. Where it cannot do what a kubelet does, it says so in the Pod's
status.
"""

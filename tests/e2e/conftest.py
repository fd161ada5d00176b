"""What all tests here share: one cluster with a real node, and OME on it as the guide installs it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import Hub
from tests.support.installation import Installation
from tools.localcluster.programs import cache_folder
from tools.node import archives, userland
from tools.node.__main__ import programs
from tools.node.cluster import NodeCluster
from tools.node.configuration import SOURCES


@pytest.fixture(scope="session")
def cluster() -> Iterator[NodeCluster]:
    """A control plane and the node node-1, with names and one empty disk for NATS."""
    folder = Path(tempfile.mkdtemp(prefix="ome-e2e-"))
    folder.chmod(0o755)
    found = programs()
    images = [*archives.of_programs(found.paths, archives.FOLDER), *archives.built()]
    with NodeCluster(folder, found, userland.obtain(cache_folder(os.environ)), images) as cluster:
        cluster.add_node("node-1")
        cluster.install_names()
        cluster.add_disk("nats", "node-1", owner=65532)
        yield cluster


@pytest.fixture(scope="session")
def hub() -> Iterator[Hub]:
    """A stand-in for the Hugging Face Hub that Pods reach."""
    with Hub(address=SOURCES) as hub:
        yield hub


@pytest.fixture(scope="session")
def ome(cluster: NodeCluster, hub: Hub) -> Installation:
    """OME, installed by the chart of everything."""
    installation = Installation(cluster, hub.endpoint)
    installation.install()
    return installation

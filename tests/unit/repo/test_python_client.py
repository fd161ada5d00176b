"""What people install holds all the generated code that the client imports."""

import tomllib

from google.protobuf.descriptor import FileDescriptor

from ome.status.v1 import status_pb2
from tests.unit.repo.checkout import ROOT


def packages_of(file: FileDescriptor) -> set[str]:
    """The packages of a file and of all that it imports, Google's own aside."""
    own = set() if file.package.startswith("google.") else {file.package}
    return own.union(*(packages_of(each) for each in file.dependencies))


def test_the_distribution_has_every_package_that_the_messages_need() -> None:
    settings = tomllib.loads((ROOT / "clients" / "python" / "pyproject.toml").read_text())
    packages = set(settings["tool"]["setuptools"]["packages"])
    assert packages == {"ome_models", "ome", *packages_of(status_pb2.DESCRIPTOR)}

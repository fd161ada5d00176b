"""Generates the Python code of the protos: `python -m tools.bootstrap.protos OUT` writes it below OUT.

The code is committed beside its .proto files (OUT = proto); a test generates it elsewhere and compares.
"""

import argparse
from pathlib import Path

from grpc_tools import protoc

PROTO_ROOT = Path(__file__).resolve().parents[2] / "proto"


def generate(out: Path) -> None:
    """Write the messages, their types and the gRPC stubs of every .proto file below out.

    Raises ValueError when protoc refuses a file; protoc has then said why on standard error.
    """
    sources = sorted(str(path.relative_to(PROTO_ROOT)) for path in PROTO_ROOT.rglob("*.proto"))
    well_known = Path(protoc.__file__).parent / "_proto"
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTO_ROOT}",
            f"--proto_path={well_known}",
            f"--python_out={out}",
            f"--pyi_out={out}",
            f"--grpc_python_out={out}",
            *sources,
        ]
    )
    if status != 0:
        raise ValueError(f"protoc failed with status {status}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tools.bootstrap.protos", description="Generates the Python code of the protos."
    )
    parser.add_argument("out", type=Path, help="directory to write into; proto for the committed code")
    generate(parser.parse_args().out.resolve())

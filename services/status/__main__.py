"""Entry point of the image: python -m services.status."""

import sys

from libs.chassis.program import run
from libs.chassis.usage import Usage
from services.status.main import main
from services.status.settings import Settings

if __name__ == "__main__":
    run(
        "status",
        Settings,
        main,
        Usage(
            "python -m services.status",
            "Reports how models stand: .status, labels of nodes, ConfigMaps, events, and StatusService over gRPC.",
        ),
        sys.argv[1:],
    )

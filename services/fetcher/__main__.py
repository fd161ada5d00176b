"""python -m services.fetcher serves a node; with resolve it lists sources for all of them."""

import sys

from libs.chassis.program import run
from libs.chassis.usage import Usage

# A process that lists or transfers imports this module again.
if __name__ == "__main__":
    if sys.argv[1:2] == ["resolve"]:
        from services.fetcher.resolver import Settings as ResolverSettings
        from services.fetcher.resolver import main as resolver

        usage = Usage("python -m services.fetcher resolve", "Lists sources for all nodes, without a node's disks.")
        run("resolver", ResolverSettings, resolver, usage, sys.argv[2:])

    from services.fetcher.main import main
    from services.fetcher.settings import Settings

    run(
        "fetcher",
        Settings,
        main,
        Usage(
            "python -m services.fetcher",
            "Brings models to the disks of one node, verifies them and says how they stand.",
            {"resolve": "Lists sources for all nodes."},
        ),
        sys.argv[1:],
    )

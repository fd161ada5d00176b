"""python -m services.fetcher serves a node; with resolve it lists sources for all of them.

With clean it gives a node back; with lister it is what a resolver has its listings made by.
"""

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
    if sys.argv[1:2] == ["clean"]:
        from services.fetcher.cleaning import Settings as CleaningSettings
        from services.fetcher.cleaning import main as clean

        about = "Takes all models of OME off a node that runs no fetcher. Exits 1 if something had to stay."
        run("fetcher", CleaningSettings, clean, Usage("python -m services.fetcher clean", about), sys.argv[2:])
    if sys.argv[1:2] == ["lister"]:
        from services.fetcher.listers.warm import main as lister

        lister()

    from services.fetcher.main import main
    from services.fetcher.settings import Settings

    run(
        "fetcher",
        Settings,
        main,
        Usage(
            "python -m services.fetcher",
            "Brings models to the disks of one node, verifies them and says how they stand.",
            {"resolve": "Lists sources for all nodes.", "clean": "Takes all models off a node that is given back."},
        ),
        sys.argv[1:],
    )

"""python -m services.fetcher serves a node; with resolve it lists sources for all of them."""

import sys

from libs.chassis.program import run

# A process that lists or transfers imports this module again.
if __name__ == "__main__":
    if sys.argv[1:2] == ["resolve"]:
        from services.fetcher.resolver import Settings as ResolverSettings
        from services.fetcher.resolver import main as resolver

        run("resolver", ResolverSettings, resolver)

    from services.fetcher.main import main
    from services.fetcher.settings import Settings

    run("fetcher", Settings, main)

"""Entry point: python -m services.fetcher."""

from libs.chassis.program import run
from services.fetcher.main import main
from services.fetcher.settings import Settings

if __name__ == "__main__":
    run("fetcher", Settings, main)

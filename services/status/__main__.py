"""Entry point of the image: python -m services.status."""

from libs.chassis.program import run
from services.status.main import main
from services.status.settings import Settings

if __name__ == "__main__":
    run("status", Settings, main)

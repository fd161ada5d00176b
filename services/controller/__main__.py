"""python -m services.controller"""

from libs.chassis.program import run
from services.controller.main import main
from services.controller.settings import Settings

run("controller", Settings, main)

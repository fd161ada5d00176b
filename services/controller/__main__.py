"""python -m services.controller decides; with gateway it stands between the nodes and what is stored."""

import sys

from libs.chassis.program import run

if sys.argv[1:2] == ["gateway"]:
    from services.controller.gateway.main import main as gateway
    from services.controller.gateway.settings import Settings as GatewaySettings

    run("gateway", GatewaySettings, gateway)

from services.controller.main import main
from services.controller.settings import Settings

run("controller", Settings, main)

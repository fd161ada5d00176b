"""python -m services.controller decides; gateway stands between nodes and NATS; secrets makes what NATS needs."""

import sys

from libs.chassis.program import run
from libs.chassis.usage import Usage

if sys.argv[1:2] == ["gateway"]:
    from services.controller.gateway.main import main as gateway
    from services.controller.gateway.settings import Settings as GatewaySettings

    usage = Usage(
        "python -m services.controller gateway",
        "Answers the messages of nodes: the only door between them and what is stored in NATS.",
    )
    run("gateway", GatewaySettings, gateway, usage, sys.argv[2:])

if sys.argv[1:2] == ["secrets"]:
    from services.controller.first_secrets import Settings as SecretsSettings
    from services.controller.first_secrets import main as first_secrets

    usage = Usage(
        "python -m services.controller secrets",
        "Makes the Secrets with the passwords and the key of NATS where they do not exist, and ends.",
    )
    run("secrets", SecretsSettings, first_secrets, usage, sys.argv[2:])

from services.controller.main import main
from services.controller.settings import Settings

run(
    "controller",
    Settings,
    main,
    Usage(
        "python -m services.controller",
        "Decides which node must hold which model, from the objects of the Kubernetes API, and tells it over NATS.",
        {
            "gateway": "Stands between the nodes and what is stored.",
            "secrets": "Makes the Secrets with the passwords and the key of NATS where they do not exist.",
        },
    ),
    sys.argv[1:],
)

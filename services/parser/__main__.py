"""python -m services.parser serves; with inspect or inspect-volume it looks at one directory and ends."""

import sys

if sys.argv[1:2] == ["inspect"]:
    # Without the server's libraries: a look at one directory should not wait for them.
    from services.parser.inspection import main as inspect

    sys.exit(inspect(sys.argv[2:]))
if sys.argv[1:2] == ["inspect-volume"]:
    from services.parser.volume import main as inspect_volume

    sys.exit(inspect_volume(sys.argv[2:]))

from libs.chassis.program import run
from libs.chassis.usage import Usage
from services.parser.main import main
from services.parser.settings import Settings

run(
    "parser",
    Settings,
    main,
    Usage(
        "python -m services.parser",
        "Answers gRPC requests for the facts in a model's configuration and headers. It connects to nothing.",
        {
            "inspect": "Prints the facts of a directory of this machine.",
            "inspect-volume": "Writes a report about a mounted volume; the Jobs for pvc:// models run it.",
        },
    ),
    sys.argv[1:],
)

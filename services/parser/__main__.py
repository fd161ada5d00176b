"""python -m services.parser serves; python -m services.parser inspect DIR prints facts."""

import sys

if sys.argv[1:2] == ["inspect"]:
    # Without the server's libraries: a look at one directory should not wait for them.
    from services.parser.inspection import main as inspect

    sys.exit(inspect(sys.argv[2:]))

from libs.chassis.program import run
from services.parser.main import main
from services.parser.settings import Settings

run("parser", Settings, main)

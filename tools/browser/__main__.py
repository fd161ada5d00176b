"""`python -m tools.browser COMMAND …`: runs a command that drives a browser, with everything it needs."""

import os
import sys

from tools.bootstrap.packages import installed_packages
from tools.browser.chromium import NoBrowser, find_browser
from tools.localcluster.programs import cache_folder


def main(command: list[str]) -> None:
    """Replace this process by the command, or end it if there is no browser."""
    cache = cache_folder(os.environ).parent / "browser"
    try:
        browser = find_browser(cache, os.environ)
    except NoBrowser as error:
        sys.exit(str(error))
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(installed_packages("browser.lock", cache)))))
    # The libraries are for the browser alone: those of this process are its own.
    libraries = browser.environ.get("LD_LIBRARY_PATH", "")
    variables = {"PYTHONPATH": path, "OME_CHROMIUM": str(browser.program), "OME_CHROMIUM_LIBRARIES": libraries}
    os.execvpe(command[0], command, {**os.environ, **variables})


if __name__ == "__main__":
    main(sys.argv[1:])

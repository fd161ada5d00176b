"""kubectl ome-models: models of a cluster at a glance, by the user's own kubeconfig and rights."""

import io
import os
import sys
from collections.abc import Sequence

from clients.kubectl.apiserver import ApiServer, Refused
from clients.kubectl.commands import HAS_FAILED, NO_ANSWER, OK, WRONG_USAGE, Commands, Unfit, Usage
from clients.kubectl.tables import harmless
from clients.kubectl.usage import kubectl_flags, named, offered, parser, wants_files, wants_models, wants_nodes

_INTERRUPTED = 130
# What the shell shall do with the words: complete paths by itself.
_SHELL_DECIDES = ":0"


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    if arguments[:1] == ["__complete"]:
        return complete(arguments[1:])
    options = parser().parse_args(arguments)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    try:
        return Commands(ApiServer(kubectl_flags(options)), options, sys.stdout, colour).run()
    except Usage as error:
        print(harmless(f"error: {error}"), file=sys.stderr)
        return WRONG_USAGE
    except Unfit as error:
        print(harmless(f"error: {error}"), file=sys.stderr)
        return HAS_FAILED
    except Refused as error:
        print(harmless(f"error: {error}"), file=sys.stderr)
        return NO_ANSWER
    except BrokenPipeError:
        # Who reads has had enough; what Python would still write at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return _INTERRUPTED


def complete(words: Sequence[str]) -> int:
    """Offer words as kubectl wants them: one a line, and then what the shell shall do with them."""
    found = offered(words)
    if wants_files(words):
        print(_SHELL_DECIDES)
        return OK
    if wants_models(words) or wants_nodes(words):
        options = parser().parse_args(["nodes" if wants_nodes(words) else "get", "-A", "-o", "name"])
        names = io.StringIO()
        try:
            Commands(ApiServer(), options, names, colour=False).run()
            found = named(names.getvalue().split(), words[-1])
        except (Refused, Usage):
            # There is nobody to tell: the user is writing.
            found = []
    print("\n".join([*found, ":4"]))
    return OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

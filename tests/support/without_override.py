"""Runs a program as root without the right to pass over modes and owners of files, as the fetcher's container does.

python -m tests.support.without_override MODULE [ARGUMENT ...]
"""

import ctypes
import os
import sys

# PR_CAPBSET_DROP of <linux/prctl.h>; CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH and FOWNER of <linux/capability.h>.
_DROP = 24
_RIGHTS = (0, 1, 2, 3)


def main() -> None:
    """Give the rights up for good, and become the module that is named."""
    libc = ctypes.CDLL(None, use_errno=True)
    for right in _RIGHTS:
        if libc.prctl(_DROP, right, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "the kernel takes no capability away")
    # What is given up is gone with the next program.
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])


if __name__ == "__main__":
    main()

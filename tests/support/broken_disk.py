"""Runs a program whose disk refuses some operations: the kernel itself answers them with an error, by a seccomp filter.

    python -m tests.support.broken_disk EIO fsync,pwrite>=65536 MODULE [ARGUMENT ...]

A filter sees numbers, not paths, so an operation is narrowed down by the least length of its buffer: the engine writes
content in ranges, and nothing else in pieces that large. A filter stays until its process ends; the disk is mended by
starting the program without it. Needs no privileges. Linux on x86-64 and ARM64.
"""

import ctypes
import errno
import platform
import re
import runpy
import sys
from collections.abc import Iterable

# AUDIT_ARCH_* of <linux/audit.h>, then operations and the numbers of their system calls (<asm/unistd.h>).
_MACHINES: dict[str, tuple[int, dict[str, tuple[int, ...]]]] = {
    "x86_64": (
        0xC000003E,
        {
            "read": (0,),
            "pwrite": (18,),
            "preadv": (295, 327),
            "fsync": (74,),
            "allocate": (285,),
            "rename": (82, 264),
            "exchange": (316,),
            "mkdir": (83, 258),
            "symlink": (88, 266),
            "sync_file_system": (306,),
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "read": (63,),
            "pwrite": (68,),
            "preadv": (69, 286),
            "fsync": (82,),
            "allocate": (47,),
            "rename": (38,),
            "exchange": (276,),
            "mkdir": (34,),
            "symlink": (36,),
            "sync_file_system": (267,),
        },
    ),
}
# <linux/bpf_common.h>, <linux/seccomp.h>, <linux/prctl.h>; the offsets are those of struct seccomp_data.
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER_AT, _MACHINE_AT, _LENGTH_AT = 0, 4, 16 + 8 * 2
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
_RULE = re.compile(r"(?P<operation>\w+)(>=(?P<length>\d+))?")

SUPPORTED = platform.machine() in _MACHINES


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("operand", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def refuse(code: int, rules: Iterable[str]) -> None:
    """Have the kernel answer operations of this process with an errno from now on, in every thread to come.

    A rule is an operation or, for those with a buffer, "operation>=least length".
    """
    machine, numbers = _MACHINES[platform.machine()]
    answer = _Instruction(_RETURN, 0, 0, _ERRNO | code)
    program = [_Instruction(_LOAD, 0, 0, _MACHINE_AT), _Instruction(_EQUAL, 1, 0, machine), _allow()]
    for rule in rules:
        match = _RULE.fullmatch(rule)
        assert match, rule
        for number in numbers[match["operation"]]:
            program.append(_Instruction(_LOAD, 0, 0, _NUMBER_AT))
            if match["length"]:
                program.append(_Instruction(_EQUAL, 0, 3, number))
                program.append(_Instruction(_LOAD, 0, 0, _LENGTH_AT))
                program.append(_Instruction(_AT_LEAST, 0, 1, int(match["length"])))
            else:
                program.append(_Instruction(_EQUAL, 0, 1, number))
            program.append(answer)
    program.append(_allow())
    array = (_Instruction * len(program))(*program)
    libc = ctypes.CDLL(None, use_errno=True)
    for call in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(_Program(len(program), array)), 0, 0),
    ):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


def _allow() -> _Instruction:
    return _Instruction(_RETURN, 0, 0, _ALLOW)


def main() -> None:
    """Break the disk of this process and become the module that is named."""
    name, rules, module, *arguments = sys.argv[1:]
    refuse(getattr(errno, name), rules.split(","))
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

"""What can go wrong with a call, by what the caller does next."""

from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


class ModelsError(Exception):
    """A call failed; reason is a word from a closed list, such as "NotFound", and empty if the service gave none."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


class Missing(ModelsError):
    """There is no such model or node."""


class Refused(ModelsError):
    """The question is malformed: ask another one."""


class Unauthenticated(ModelsError):
    """The token is missing, has expired or is meant for somebody else: get another one."""


class Denied(ModelsError):
    """The owner of the token lacks the right in the Kubernetes API."""


class Unavailable(ModelsError):
    """The service cannot be reached, has not read everything yet, or is asked too much: try again later."""


_KINDS = {
    grpc.StatusCode.NOT_FOUND: Missing,
    grpc.StatusCode.INVALID_ARGUMENT: Refused,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Denied,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
}


def error_of(error: grpc.RpcError) -> ModelsError:
    """The error that a failed call is for its caller."""
    # Every error that a call raises is also the call, which knows its code.
    call: Any = error
    code = call.code()
    return _KINDS.get(code, ModelsError)(call.details() or code.name, _reason(call))


def _reason(call: Any) -> str:
    status = rpc_status.from_call(call)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return str(info.reason)
    return ""

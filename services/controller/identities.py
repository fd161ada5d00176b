"""Decides whether a model may use the identity that a cloud gives to OME's own Pods. Pure.

That identity may read whatever its operator lets OME read. Cluster-scoped models use it; a namespaced one does where
the operator has said so, and never at an endpoint that its author has chosen.
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.artifact.uri import USER_PRINCIPAL, BucketUri, ModelUri, OracleUri, named_auth_type

# A namespace or * for all, and after a sign the buckets in it that count, as a pattern of the shell's.
_GRANT = re.compile(r"(?P<namespace>[*]|[a-z0-9-]+)(=(?P<bucket>.+))?")


def check_identity(
    namespace: str, uri: ModelUri, parameters: Mapping[str, str], has_credentials: bool, grants: Iterable[str]
) -> None:
    """Refuse a model of a namespace (empty for none) that would use an identity without a grant.

    Raises InvalidValue IdentityRefused.
    """
    if not namespace or not _uses_identity(uri, parameters, has_credentials):
        return
    bucket = _bucket(uri, parameters)
    if parameters.get("endpoint", "").strip():
        raise InvalidValue(
            Reason.IDENTITY_REFUSED,
            f"the identity of OME's Pods signs nothing for storage.parameters.endpoint of a BaseModel: {_advice(uri)}",
        )
    if not any(_grants(grant, namespace, bucket) for grant in grants):
        raise InvalidValue(
            Reason.IDENTITY_REFUSED,
            f"BaseModels of namespace {namespace!r} may not use the identity of OME's Pods for {bucket}: "
            f"{_advice(uri)}, or ask the administrator to add {namespace!r} to identity.namespaces of the "
            "controller's chart",
        )


def _uses_identity(uri: ModelUri, parameters: Mapping[str, str], has_credentials: bool) -> bool:
    """Whether a fetcher signs with an identity of its own: read as the backends read the same parameters."""
    if isinstance(uri, OracleUri):
        named = named_auth_type(parameters)
        return named != USER_PRINCIPAL if named else not has_credentials
    if isinstance(uri, BucketUri):
        return not has_credentials and parameters.get("skip_signature", "").strip().lower() != "true"
    return False


def _bucket(uri: ModelUri, parameters: Mapping[str, str]) -> str:
    """The bucket as grants name it, by all that says whose it is."""
    if isinstance(uri, OracleUri):
        return f"oci://{uri.namespace}/{uri.bucket}"
    if isinstance(uri, BucketUri):
        account = f"{parameters.get('account_name', '').strip()}/" if uri.scheme == "az" else ""
        return f"{uri.scheme}://{account}{uri.bucket}"
    return ""


def _grants(grant: str, namespace: str, bucket: str) -> bool:
    match = _GRANT.fullmatch(grant)
    if match is None or match["namespace"] not in ("*", namespace):
        return False
    return match["bucket"] is None or fnmatchcase(bucket, match["bucket"])


def _advice(uri: ModelUri) -> str:
    if isinstance(uri, OracleUri):
        return "name a Secret with a user's key in storage.storageKey and write auth_type UserPrincipal"
    return "name a Secret in storage.storageKey, or set storage.parameters.skip_signature to 'true' for a public bucket"

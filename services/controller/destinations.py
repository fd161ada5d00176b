"""Decides whether the credentials of a model may go where its source is: over https, to a host that is known. Pure.

A model's author need not be allowed to read the Secret that the model names. So a Secret goes to the hosts that belong
to the kind of source, and to others only if whoever may write the Secret has named them in it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from libs.artifact.errors import InvalidValue
from libs.artifact.hosts import NamedEndpoint, is_listed, read_endpoint_host
from libs.artifact.reasons import Reason
from libs.artifact.uri import syntax_of
from libs.chassis.errors import Missing
from ome.fetch.v1 import fetch_pb2

ALLOWED_HOSTS_ANNOTATION = "models.ome.io/allowed-hosts"
# Types of Secrets that people make for credentials of their own. The others belong to machinery, such as Helm's
# releases and tokens of ServiceAccounts.
_TYPES = ("", "Opaque", "kubernetes.io/basic-auth")
_REGION = "[a-z]{2,3}(-[a-z]+)+-[0-9]+"
# The hosts of each kind of source. A cloud lets its customers name hosts in its domain too, such as load balancers:
# only the forms of its object storage count. Sources: "Amazon S3 endpoints and quotas", "Cloud Storage request
# endpoints", "Azure Storage account endpoints", "Object Storage dedicated endpoints".
_WELL_KNOWN = {
    "hf": r"(www[.])?huggingface[.]co",
    "ms": r"(www[.])?modelscope[.](cn|ai)",
    "s3": rf"([a-z0-9._-]+[.])?s3(-fips|-accelerate|-{_REGION})?([.]dualstack)?([.]{_REGION})?([.]vpce)?"
    r"[.]amazonaws[.]com([.]cn)?",
    "gs": r"([a-z0-9._-]+[.])?googleapis[.]com",
    "az": r"[a-z0-9-]+([.]z[0-9]+)?[.](blob|dfs)[.]core[.](windows[.]net|usgovcloudapi[.]net|chinacloudapi[.]cn)",
    "oci": r"([a-z0-9-]+[.])?objectstorage[.][a-z0-9-]+[.](oci[.]customer-oci[.]com|oraclecloud[.](com|eu)|"
    r"oraclegovcloud[.](com|uk))",
}


@dataclass(frozen=True)
class DestinationRules:
    """What the operator's settings say: the hubs that fetchers use by default, and hosts without https."""

    hf_endpoint: str = "https://huggingface.co"
    modelscope_endpoint: str = "https://www.modelscope.cn"
    insecure_hosts: tuple[str, ...] = ()


NO_RULES = DestinationRules()


def check_transport(source: fetch_pb2.Source, rules: DestinationRules = NO_RULES) -> None:
    """Refuse to send any credentials to a source over plain http. Raises Missing SecretRefused, InvalidValue."""
    endpoint = _endpoint(source)
    if endpoint is None or endpoint.scheme == "https" or _is_operators(source, endpoint, rules):
        return
    if not is_listed(endpoint.host, rules.insecure_hosts):
        raise Missing(
            Reason.SECRET_REFUSED,
            "storage.parameters.endpoint begins with http://, over which credentials are not sent: write https://, or "
            f"ask the administrator to add {endpoint.host!r} to credentials.insecureHosts of the controller's chart",
        )


def check_secret(
    name: str,
    kind: str,
    annotations: Mapping[str, str],
    source: fetch_pb2.Source,
    rules: DestinationRules = NO_RULES,
) -> None:
    """Refuse to send a Secret where it was not made for; `name` is what a person calls it, `kind` its type.

    Raises Missing SecretRefused, InvalidValue for an endpoint that is none.
    """
    if kind not in _TYPES:
        raise Missing(
            Reason.SECRET_REFUSED,
            f"Secret {name} is of a type that no model may use: put the credentials of the source into a Secret of "
            "type Opaque or kubernetes.io/basic-auth",
        )
    check_transport(source, rules)
    endpoint = _endpoint(source)
    if endpoint is None or _is_operators(source, endpoint, rules) or _is_well_known(source, endpoint):
        return
    if not is_listed(endpoint.host, annotations.get(ALLOWED_HOSTS_ANNOTATION, "").split(",")):
        raise Missing(
            Reason.SECRET_REFUSED,
            f"Secret {name} is not meant for {endpoint.host!r}, which is no host of {_scheme(source)}:// itself: "
            f"whoever may write the Secret can allow it by the annotation {ALLOWED_HOSTS_ANNOTATION}: {endpoint.host}",
        )


def _endpoint(source: fetch_pb2.Source) -> NamedEndpoint | None:
    """Where the model says that its source is; None where that follows from the kind of source, or from a driver."""
    text = source.parameters.get("endpoint", "").strip()
    if not text or syntax_of(source.uri).parameters is None:
        return None
    endpoint = read_endpoint_host(text)
    if endpoint is None:
        raise InvalidValue(
            Reason.INVALID_PARAMETER,
            "storage.parameters.endpoint must be a URL such as https://store.example.com:9000, with neither a user nor "
            "a query in it",
        )
    return endpoint


def _is_operators(source: fetch_pb2.Source, endpoint: NamedEndpoint, rules: DestinationRules) -> bool:
    """Whether an endpoint is the one that the operator has set for all models: then it counts as it is."""
    own = {"hf": rules.hf_endpoint, "ms": rules.modelscope_endpoint}.get(_scheme(source), "")
    return bool(own) and read_endpoint_host(own) == endpoint


def _is_well_known(source: fetch_pb2.Source, endpoint: NamedEndpoint) -> bool:
    return bool(re.fullmatch(_WELL_KNOWN.get(_scheme(source), "(?!)"), endpoint.host))


def _scheme(source: fetch_pb2.Source) -> str:
    return syntax_of(source.uri).scheme

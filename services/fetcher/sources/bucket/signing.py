"""Signs addresses of objects with the keys that a Secret holds, for clouds of which obstore does not do it well. Pure.

obstore 0.12 signs for storage.googleapis.com whatever endpoint is asked, leaves some characters of names for Google as
they are, and gives Azure the quoted name to sign where the service takes the plain one. It is left with what it alone
can do: to sign with the identity of a pod.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode, urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from services.fetcher.sources.bucket.source import BucketSource

Signer = Callable[[str, datetime, timedelta], str]
"""From a key of the bucket, the time, and how long it is good for, to an address with which anybody may get the object.

It holds a secret, and may be used from several threads.
"""

ListingSigner = Callable[[Mapping[str, str], datetime, timedelta], str]
"""The same from the query of a listing to an address with which anybody may list the bucket."""

_GOOGLE_ALGORITHM = "GOOG4-RSA-SHA256"
# The first version whose signatures are made as below.
_AZURE_VERSION = "2020-12-06"
# Names for which obstore signs another address than the one that is asked for.
_UNSIGNABLE = {"gs": re.compile(r"[%?#]"), "az": re.compile(r"[^\w/.~-]", re.ASCII)}


def signer_of(source: BucketSource) -> Signer | None:
    """How addresses of a source are signed with the key in its Secret; None where obstore is to do it.

    Raises ValueError for a key that cannot be used.
    """
    if "service_account_key" in source.secret:
        return _google_signer(source)
    if "account_key" in source.secret:
        return _azure_signer(source)
    return None


def listing_signer_of(source: BucketSource) -> ListingSigner | None:
    """How addresses of listings are signed, or need no signature; None where obstore is to do it, or nobody can.

    Raises ValueError for a key that cannot be used.
    """
    if source.anonymous:
        return lambda query, now, good_for: _with_query(_listing_url(source), query)
    if "service_account_key" in source.secret:
        return _google_listing_signer(source)
    if "account_key" in source.secret:
        return _azure_listing_signer(source)
    if "sas_key" in source.secret:
        return lambda query, now, good_for: f"{_with_query(_listing_url(source), query)}&{source.secret['sas_key']}"
    return None


def _listing_url(source: BucketSource) -> str:
    """Azure's containers have no slash behind them, and the others take both."""
    return source.plain_url("").rstrip("/")


def _with_query(url: str, query: Mapping[str, str]) -> str:
    return f"{url}?{urlencode(query, quote_via=quote, safe='')}"


def is_signable(source: BucketSource, key: str) -> bool:
    """Whether an address of this key of the bucket can be signed, or needs no signature."""
    needs_obstore = not source.secret and not source.anonymous and source.scheme in _UNSIGNABLE
    return not needs_obstore or not _UNSIGNABLE[source.scheme].search(key)


def _google_signer(source: BucketSource) -> Signer:
    sign = _google_address(source)
    return lambda key, now, good_for: sign(source.plain_url(key), {}, now, good_for)


def _google_listing_signer(source: BucketSource) -> ListingSigner:
    sign = _google_address(source)
    return lambda query, now, good_for: sign(_listing_url(source), query, now, good_for)


def _google_address(source: BucketSource) -> Callable[[str, Mapping[str, str], datetime, timedelta], str]:
    """V4 signatures with RSA: https://cloud.google.com/storage/docs/authentication/signatures"""
    account = json.loads(source.secret["service_account_key"])
    try:
        private_key = serialization.load_pem_private_key(account["private_key"].encode(), None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("the private key is encrypted, or of an unknown kind") from error
    if not isinstance(private_key, rsa.RSAPrivateKey):
        raise ValueError("the private key is not of the kind RSA")  # noqa: TRY004
    rsa_key = private_key

    def sign(url: str, asked: Mapping[str, str], now: datetime, good_for: timedelta) -> str:
        address = urlsplit(url)
        scope = f"{now:%Y%m%d}/auto/storage/goog4_request"
        fields = {
            **asked,
            "X-Goog-Algorithm": _GOOGLE_ALGORITHM,
            "X-Goog-Credential": f"{account['client_email']}/{scope}",
            "X-Goog-Date": f"{now:%Y%m%dT%H%M%SZ}",
            "X-Goog-Expires": str(int(good_for.total_seconds())),
            "X-Goog-SignedHeaders": "host",
        }
        query = urlencode(sorted(fields.items()), quote_via=quote, safe="")
        request = f"GET\n{address.path}\n{query}\nhost:{address.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"{_GOOGLE_ALGORITHM}\n{fields['X-Goog-Date']}\n{scope}\n{digest}"
        signature = rsa_key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{url}?{query}&X-Goog-Signature={signature.hex()}"

    return sign


def _azure_signer(source: BucketSource) -> Signer:
    sign = _azure_token(source)
    return lambda key, now, good_for: f"{source.plain_url(key)}?{sign(f'/{key}', 'b', 'r', now + good_for)}"


def _azure_listing_signer(source: BucketSource) -> ListingSigner:
    sign = _azure_token(source)

    def address(query: Mapping[str, str], now: datetime, good_for: timedelta) -> str:
        return f"{_with_query(_listing_url(source), query)}&{sign('', 'c', 'l', now + good_for)}"

    return address


def _azure_token(source: BucketSource) -> Callable[[str, str, str, datetime], str]:
    """A service SAS, of a blob or of a container.

    https://learn.microsoft.com/en-us/rest/api/storageservices/create-service-sas
    """
    account_key = base64.b64decode(source.secret["account_key"], validate=True)

    def sign(below: str, kind: str, permission: str, until: datetime) -> str:
        expiry = f"{until:%Y-%m-%dT%H:%M:%SZ}"
        resource = f"/blob/{source.account_name}/{source.bucket}{below}"
        # Permissions, start, expiry, resource, policy, addresses, protocol, version and kind; no more is restricted.
        lines = [permission, "", expiry, resource, "", "", "", _AZURE_VERSION, kind, *[""] * 7]
        signature = base64.b64encode(hmac.digest(account_key, "\n".join(lines).encode(), hashlib.sha256)).decode()
        fields = {"sv": _AZURE_VERSION, "sr": kind, "sp": permission, "se": expiry, "sig": signature}
        return urlencode(fields, quote_via=quote, safe="")

    return sign

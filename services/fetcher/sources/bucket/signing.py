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
from collections.abc import Callable
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


def is_signable(source: BucketSource, key: str) -> bool:
    """Whether an address of this key of the bucket can be signed, or needs no signature."""
    needs_obstore = not source.secret and not source.anonymous and source.scheme in _UNSIGNABLE
    return not needs_obstore or not _UNSIGNABLE[source.scheme].search(key)


def _google_signer(source: BucketSource) -> Signer:
    """V4 signatures with RSA: https://cloud.google.com/storage/docs/authentication/signatures"""
    account = json.loads(source.secret["service_account_key"])
    try:
        private_key = serialization.load_pem_private_key(account["private_key"].encode(), None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("the private key is encrypted, or of an unknown kind") from error
    if not isinstance(private_key, rsa.RSAPrivateKey):
        raise ValueError("the private key is not of the kind RSA")  # noqa: TRY004
    rsa_key = private_key

    def sign(key: str, now: datetime, good_for: timedelta) -> str:
        url = source.plain_url(key)
        address = urlsplit(url)
        scope = f"{now:%Y%m%d}/auto/storage/goog4_request"
        fields = {
            "X-Goog-Algorithm": _GOOGLE_ALGORITHM,
            "X-Goog-Credential": f"{account['client_email']}/{scope}",
            "X-Goog-Date": f"{now:%Y%m%dT%H%M%SZ}",
            "X-Goog-Expires": str(int(good_for.total_seconds())),
            "X-Goog-SignedHeaders": "host",
        }
        query = urlencode(fields, quote_via=quote, safe="")
        request = f"GET\n{address.path}\n{query}\nhost:{address.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"{_GOOGLE_ALGORITHM}\n{fields['X-Goog-Date']}\n{scope}\n{digest}"
        signature = rsa_key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{url}?{query}&X-Goog-Signature={signature.hex()}"

    return sign


def _azure_signer(source: BucketSource) -> Signer:
    """A service SAS for one blob: https://learn.microsoft.com/en-us/rest/api/storageservices/create-service-sas"""
    account_key = base64.b64decode(source.secret["account_key"], validate=True)

    def sign(key: str, now: datetime, good_for: timedelta) -> str:
        expiry = f"{now + good_for:%Y-%m-%dT%H:%M:%SZ}"
        resource = f"/blob/{source.account_name}/{source.bucket}/{key}"
        # Permissions, start, expiry, resource, policy, addresses, protocol, version and kind; no more is restricted.
        lines = ["r", "", expiry, resource, "", "", "", _AZURE_VERSION, "b", *[""] * 7]
        signature = base64.b64encode(hmac.digest(account_key, "\n".join(lines).encode(), hashlib.sha256)).decode()
        fields = {"sv": _AZURE_VERSION, "sr": "b", "sp": "r", "se": expiry, "sig": signature}
        return f"{source.plain_url(key)}?{urlencode(fields, quote_via=quote, safe='')}"

    return sign

"""What stores say when they refuse, and what a person can do about it: one table for listings and for content. Pure.

A store names its reason by a code of its own (in XML, JSON or a header). The code decides better than the status, as
several reasons share each status. Its words reach the person too: bounded, without control characters, and without
anything that may be secret. Whoever reports a refusal adds which file or source it is about.
"""

import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from libs.artifact.reasons import Reason
from libs.artifact.wording import one_line
from libs.chassis.errors import Invalid, Missing, ServiceError, Unavailable

# As much of a refusal's body as is looked at: codes and messages stand at the beginning.
BODY_BYTES = 16 << 10
_MOST_CHARACTERS = 1024
# Of a message: what is behind is not looked at, as hiding may make it shorter but never by so much.
_MOST_LOOKED_AT = 4096
_CODE = re.compile(r"[A-Za-z][\w.-]{0,79}")
_XML_CODE = re.compile(r"<Code>\s*([^<>]{1,80}?)\s*</Code>")
_XML_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)
# Shorter values are words, dates or counts rather than secrets, and would tear holes into sentences.
_SECRET_CHARACTERS = 8
_HIDDEN = "..."
# Words of an Authorization header that are no secret.
_SCHEMES = {"Signature", "algorithm=", "signature=", "version=", "headers="}
# What is secret whatever it was sent with: the query and the user of an address, keys by their form, named values.
_SECRET_FORMS = (
    (re.compile(r"(?<=://)[^\s/@]*@"), ""),
    (re.compile(r"(https?://[^\s?\"'<>]*)\?[^\s\"'<>]*"), r"\1"),
    (re.compile(r"\b(Bearer|Basic)\s+\S{8,}"), rf"\1 {_HIDDEN}"),
    (re.compile(r"\b(?:hf_|A[KS]IA|gh[pousr]_|eyJ)[\w.+/=-]{8,}"), _HIDDEN),
    (
        re.compile(r"(?i)\b([\w-]{0,40}(?:sig|signature|token|secret|password|credential|key)\"?\s*[=:]\s*)\S+"),
        rf"\1{_HIDDEN}",
    ),
    # A long run of all three kinds of characters is an encoded value; names of files and ids rarely are.
    (re.compile(r"(?<![\w+/=])(?=[\w+/=]*[a-z])(?=[\w+/=]*[A-Z])(?=[\w+/=]*\d)[\w+/=]{32,}"), _HIDDEN),
)


@dataclass(frozen=True)
class Said:
    """A store's own code and words; either may be empty."""

    code: str = ""
    message: str = ""

    def behind(self, status: int) -> str:
        """The status, if it is known, and what was said, as it stands in brackets behind a sentence."""
        message = self.message if self.message.endswith(_HIDDEN) else self.message.removesuffix(".")
        told = ": ".join(filter(None, (self.code, message)))
        return ", ".join(filter(None, (f"HTTP {status}" if status else "", told)))


@dataclass(frozen=True)
class Refusal:
    """What a code means: the reason, and a sentence that continues the name of what was asked for.

    `general` says that the code tells no more than a status would: whoever knows the source has better advice.
    `anonymous` is the sentence for who sent neither token nor signature, where other advice helps.
    """

    reason: Reason
    sentence: str
    general: bool = False
    anonymous: str = ""

    def error(self, subject: str, behind: str, *, anonymous: bool = False) -> ServiceError:
        """The refusal as an error about a subject; `behind` stands in brackets at the end of the sentence."""
        sentence = self.anonymous if anonymous and self.anonymous else self.sentence
        return _KINDS.get(self.reason, Missing)(self.reason, f"{subject} {sentence} ({behind})")


_KINDS: dict[Reason, type[ServiceError]] = {Reason.RATE_LIMITED: Unavailable, Reason.INVALID_PARAMETER: Invalid}

_WITH_TOKEN = "name a Secret that holds a token in storage.storageKey"  # noqa: S105 (advice)
GATED = Refusal(
    Reason.GATED,
    "is gated: accept its terms with the account that the token belongs to",
    anonymous=f"is gated: accept its terms with an account, and {_WITH_TOKEN}",
)
# Of a file that was listed before: whoever asks for it without a repository would be told so when it is listed.
_REPOSITORY_GONE = Refusal(
    Reason.NOT_FOUND,
    "cannot be read any more: its repository is gone, or the owner of the token may not see it; check storageUri, and "
    "what the token may read",
    general=True,
    anonymous="cannot be read any more: its repository is gone or private; check storageUri, and if it is private, "
    f"{_WITH_TOKEN}",
)
NOT_FOUND = Refusal(Reason.NOT_FOUND, "does not exist at the origin", general=True)
NOT_ALLOWED = Refusal(
    Reason.FORBIDDEN,
    "may not be read: check the token or key and its permissions",
    general=True,
    anonymous="may not be read without credentials: name a Secret that holds them in storage.storageKey",
)
RATE_LIMITED = Refusal(Reason.RATE_LIMITED, "is held back: the store asks to slow down", general=True)
_NO_BUCKET = Refusal(Reason.NOT_FOUND, "is in a bucket that does not exist: check storageUri", general=True)
_HIDDEN_OR_GONE = Refusal(
    Reason.NOT_FOUND,
    "does not exist, or no policy allows to read it: check storageUri and what the principal is allowed",
    general=True,
)
_ARCHIVED = Refusal(
    Reason.FORBIDDEN, "is in an archive tier and cannot be read from there: restore it in the bucket first"
)
_EXPIRED = Refusal(
    Reason.FORBIDDEN,
    "is refused because the credentials have expired: renew those in the Secret named by storage.storageKey",
)
_WRONG_KEY = Refusal(
    Reason.FORBIDDEN,
    "is refused because the store does not accept the credentials: they are wrong, revoked or of another account, or "
    "the clock of this node is wrong; check those in the Secret named by storage.storageKey",
    general=True,
)
_CLOCK = Refusal(Reason.FORBIDDEN, "is refused because the clock of this node differs from the store's: set it right")
_DISABLED = Refusal(Reason.FORBIDDEN, "cannot be read because its account or bucket is disabled: ask the owner")
_ENCRYPTED = Refusal(
    Reason.FORBIDDEN,
    "is encrypted with a key that cannot be used: have the key enabled, and its use allowed to the reader",
)
_READERS_PAY = Refusal(
    Reason.FORBIDDEN, "is in a bucket whose readers pay, which is not supported: use a copy elsewhere"
)
_NETWORK = Refusal(Reason.FORBIDDEN, "may not be read from this node's address: check the network rules of the account")
WRONG_REGION = Refusal(
    Reason.INVALID_PARAMETER, "is in another region than was asked: write the bucket's own in parameters.region"
)

# Codes in lower case. Sources: S3 "Error responses", Azure "Blob service error codes", Google "Status and error codes"
# of the XML and JSON API, Oracle "API errors", and X-Error-Code of the Hugging Face Hub, which answers 401 for what
# does not exist and 403 for much else.
_REFUSALS = {
    code.lower(): refusal
    for refusal, codes in {
        GATED: "GatedRepo",
        NOT_FOUND: "NoSuchKey NoSuchVersion BlobNotFound ObjectNotFound ResourceNotFound notFound EntryNotFound "
        "RevisionNotFound",
        _REPOSITORY_GONE: "RepoNotFound",
        _NO_BUCKET: "NoSuchBucket ContainerNotFound ContainerBeingDeleted BucketNotFound NamespaceNotFound",
        _HIDDEN_OR_GONE: "NotAuthorizedOrNotFound",
        _ARCHIVED: "InvalidObjectState BlobArchived BlobBeingRehydrated NotRestored",
        _EXPIRED: "ExpiredToken TokenRefreshRequired authExpired",
        _WRONG_KEY: "InvalidAccessKeyId SignatureDoesNotMatch InvalidToken InvalidSecurity AuthenticationFailed "
        "InvalidAuthenticationInfo NotAuthenticated authError",
        _CLOCK: "RequestTimeTooSkewed",
        _DISABLED: "AllAccessDisabled AccountProblem AccountIsDisabled accountDisabled UserSuspended DisabledRepo",
        _ENCRYPTED: "KMS.DisabledException KMS.NotFoundException KMS.InvalidStateException "
        "KMS.KMSInvalidStateException BlobUsesCustomerSpecifiedEncryption ResourceIsEncryptedWithCustomerEncryptionKey",
        _READERS_PAY: "UserProjectMissing UserProjectAccessDenied UserProjectInconsistent",
        _NETWORK: "AuthorizationSourceIPMismatch AuthorizationProtocolMismatch",
        NOT_ALLOWED: "AccessDenied AuthorizationPermissionMismatch AuthorizationFailure InsufficientAccountPermissions "
        "PublicAccessNotPermitted NoAuthenticationInformation forbidden NotAllowed",
        WRONG_REGION: "AuthorizationHeaderMalformed PermanentRedirect IllegalLocationConstraintException",
        RATE_LIMITED: "SlowDown ServerBusy TooManyRequests RequestLimitExceeded Throttling ThrottlingException "
        "rateLimitExceeded userRateLimitExceeded",
    }.items()
    for code in codes.split()
}


def refusal_of(code: str) -> Refusal | None:
    """What a store's code means; None for one that the table lacks."""
    return _REFUSALS.get(code.lower())


def said_by(headers: Mapping[str, str], body: bytes, secrets: Iterable[str]) -> Said:
    """The code and words of a refusal from its headers, with lower-case names, and the beginning of its body.

    `secrets` are what was sent with the request: none of it comes back in the words.
    """
    found = _said_in(body[:BODY_BYTES].decode(errors="replace"))
    code = headers.get("x-error-code") or headers.get("x-ms-error-code") or found.code
    message = headers.get("x-error-message") or found.message
    return Said(code if _CODE.fullmatch(code) else "", cleaned(message, secrets))


def said_in(text: str, secrets: Iterable[str]) -> Said:
    """The same of a text that holds a store's XML or JSON somewhere, as messages of SDKs do."""
    opening = text.find("{") if "<Code>" not in text else -1
    return said_by({}, text[max(opening, 0) :].encode(errors="replace"), secrets)


def cleaned(text: str, secrets: Iterable[str] = ()) -> str:
    """Somebody else's words in one line of at most 1,024 characters, without what may be secret."""
    text = one_line(text[:_MOST_LOOKED_AT], _MOST_LOOKED_AT)
    parts = {part for secret in secrets for part in re.split(r"[\s\",;]+", secret) if len(part) >= _SECRET_CHARACTERS}
    parts -= _SCHEMES
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, _HIDDEN)
    for form, instead in _SECRET_FORMS:
        text = form.sub(instead, text)
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - len(_HIDDEN)] + _HIDDEN


def _said_in(text: str) -> Said:
    code, message = _XML_CODE.search(text), _XML_MESSAGE.search(text)
    if code or message:
        return Said(code[1] if code else "", html.unescape(message[1]) if message else "")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return Said()
    return _said_in_json(document)


def _said_in_json(document: object) -> Said:
    # {"code", "message"} is Oracle's, {"error": {"message", "status", "errors": [{"reason"}]}} Google's,
    # {"errors": [{"code", "message"}]} that of registries, {"error": "..."} the Hugging Face Hub's.
    if not isinstance(document, dict):
        return Said()
    inner = document.get("error", document)
    if isinstance(inner, str):
        return Said("", inner)
    if not isinstance(inner, dict):
        return Said()
    errors = inner.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    codes = (first.get("reason"), first.get("code"), inner.get("status"), inner.get("code"))
    messages = (inner.get("message"), first.get("message"))
    return Said(
        next((code for code in codes if isinstance(code, str)), ""),
        next((message for message in messages if isinstance(message, str)), ""),
    )

"""Model URIs: what storage.storageUri and storage.parameters may say, scheme by scheme, and what each part means.

One entry of SYNTAXES is all that the services and the CRDs know of a scheme: the CRDs write the same conditions in CEL.
Decides syntax only; whether the thing named exists is for the adapters. Must not do I/O.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason

# Git reference names: see git-check-ref-format(1); narrower here, as the name becomes a part of URLs.
_REVISION = r"[A-Za-z0-9][A-Za-z0-9._/+-]*"
_NO_REVISION = r"[.][.]|//"
# The folder in which fetchers keep the files of all models.
_STATE = "/[.]ome(/|$)"
_STATE_SENTENCE = (
    "must not lead into .ome, where OME keeps the files of all models; name the source of the model instead"
)


@dataclass(frozen=True)
class HuggingFaceUri:
    """hf://{model-id}[@{branch}]; revision is empty when the URI names none."""

    repository: str
    revision: str


@dataclass(frozen=True)
class ModelScopeUri:
    """ms://{owner}/{name}[@{revision}]; revision is empty when the URI names none."""

    repository: str
    revision: str


@dataclass(frozen=True)
class OracleUri:
    """oci://n/{namespace}/b/{bucket}/o/{object_path}; prefix may be empty: the whole bucket."""

    namespace: str
    bucket: str
    prefix: str


@dataclass(frozen=True)
class VolumeClaimUri:
    """pvc://[{namespace}:]{pvc-name}/{sub-path}; namespace is empty when the URI names none."""

    namespace: str
    claim: str
    sub_path: str


@dataclass(frozen=True)
class VendorUri:
    """vendor://{vendor-name}/{resource-type}/{resource-path}."""

    vendor: str
    resource_type: str
    resource_path: str


@dataclass(frozen=True)
class LocalUri:
    """local:///path: an absolute, normalised path on the node."""

    path: str


@dataclass(frozen=True)
class BucketUri:
    """s3://bucket/prefix, gs://bucket/prefix and az://container/prefix."""

    scheme: str
    bucket: str
    prefix: str


ModelUri = HuggingFaceUri | ModelScopeUri | OracleUri | VolumeClaimUri | VendorUri | LocalUri | BucketUri


class Listing(Enum):
    """Who says which files a model has."""

    # The source, which is asked once for the fleet.
    SOURCE = "source"
    # The source, or else each node: fetchers know which vendors have a driver.
    SOURCE_OR_NODE = "source or node"
    # Whoever put the files where they are.
    NODE = "node"


@dataclass(frozen=True)
class Condition:
    """What a whole text must match, and what no part of it may, as regular expressions that Python and RE2 read alike.

    sentence says to whoever breaks it what to write instead; its subject is the text.
    """

    pattern: str
    sentence: str
    never: str = ""

    def holds(self, text: str) -> bool:
        """Whether a text is as it must be."""
        never = self.never and re.search(self.never, text, re.ASCII)
        return bool(re.fullmatch(self.pattern, text, re.ASCII)) and not never


@dataclass(frozen=True)
class Parameter:
    """A word of storage.parameters that a scheme knows: what it says, for people, and how it must be written.

    spelling_of is the word of the same meaning that stands instead of it as a rule; no model may have both.
    """

    name: str
    meaning: str
    value: Condition | None = None
    spelling_of: str = ""


@dataclass(frozen=True)
class Syntax:
    """Everything that is known of the URIs of one scheme.

    form and conditions are about what stands behind "://". is_path says that it is taken apart at its slashes, where
    "." and ".." have no place. parameters is None where any word may have a meaning to somebody. secret_key is the one
    key of a Secret that is used, under the name that parameters.secretKey gives it, and empty where all of them are.
    reads_secret tells by the parameters whether a Secret is looked at when a model names one.
    """

    scheme: str
    form: str
    conditions: tuple[Condition, ...]
    read: Callable[[str], ModelUri]
    listing: Listing
    is_path: bool = True
    parameters: tuple[Parameter, ...] | None = ()
    secret_key: str = ""
    reads_secret: Callable[[Mapping[str, str]], bool] = lambda parameters: True

    @property
    def whole_form(self) -> str:
        """The form with the scheme before it."""
        return f"{self.scheme}://{self.form}"


# Parameters about where credentials are. They mean the same for every scheme, and no node is told of them.
SECRET_KEY_PARAMETER = "secretKey"  # noqa: S105 (the name of a parameter)
SECRET_NAMESPACE_PARAMETER = "secretNamespace"  # noqa: S105
TOKEN_PARAMETER = "token"  # noqa: S105
CREDENTIAL_PARAMETERS = (TOKEN_PARAMETER, SECRET_KEY_PARAMETER, SECRET_NAMESPACE_PARAMETER)
# The name under which a node is handed the one key that it gets of a Secret.
TOKEN_KEY = "token"  # noqa: S105
# Names under which tools take keys and passwords. No source takes them as parameters, which everybody could read.
SECRET_WORDS = (
    "(?i)(password|passphrase|(private|account|api|secret[-_]?access)[-_]?key|secret[-_]key|client[-_]?secret|"  # noqa: S105
    "(sas|session|access|auth|bearer|hf)[-_]?token)"
)

# Parameter of oci:// that says whose identity signs, and how OME itself spells it.
AUTH_TYPE = "auth_type"
_OLDER_AUTH_TYPE = "auth"
# The one identity that a Secret holds the key of.
USER_PRINCIPAL = "UserPrincipal"
AUTH_TYPES = ("InstancePrincipal", USER_PRINCIPAL, "ResourcePrincipal", "OkeWorkloadIdentity")

# Parameter of every scheme: whether nodes offer a model of which files are known to be missing or damaged.
ALLOW_INCOMPLETE = "allowIncomplete"
# Parameters that choose among the files of a source, and change neither who is asked for them nor how.
CHOICE_PARAMETERS = ("allowPatterns", "ignorePatterns", "revision", "transport", ALLOW_INCOMPLETE)
_COMPLETENESS = Parameter(ALLOW_INCOMPLETE, "'true' to use a model of which files are missing or damaged")
# Parameters of every scheme whose files OME chooses.
PATTERNS = ("allowPatterns", "ignorePatterns")
VARIANT = "variant"
_PATTERNS = (
    _COMPLETENESS,
    Parameter(PATTERNS[0], "files to fetch instead of those that OME would choose"),
    Parameter(PATTERNS[1], "files to leave out before anything is chosen"),
    Parameter(VARIANT, "quantization or precision to fetch, such as Q4_K_M or fp16, or original"),
)
_REVISION_PARAMETER = Parameter(
    "revision",
    "branch, tag or commit",
    Condition(_REVISION, "must be a Git branch, tag or commit, as in main", never=_NO_REVISION),
)
# So much alike, by difflib's measure, are words of which one is the other misspelt; "region" and "revision" are not.
_NEAR = 0.75
# Where drivers have words of their own, which may be as much alike, these alone are ours, if hardly another is meant.
_OUR_WORDS = (ALLOW_INCOMPLETE, *PATTERNS)
_HARDLY_ANOTHER = 0.9
_SKIP_SIGNATURE = Parameter("skip_signature", "'true' for a public bucket")


def _repository_of(build: Callable[[str, str], ModelUri]) -> Callable[[str], ModelUri]:
    def read(rest: str) -> ModelUri:
        repository, _, revision = rest.partition("@")
        return build(repository, revision)

    return read


def _read_oracle(rest: str) -> ModelUri:
    _, namespace, _, bucket, _, *prefix = rest.split("/", 5)
    return OracleUri(namespace, bucket, _normal("".join(prefix)))


def _read_volume_claim(rest: str) -> ModelUri:
    head, _, sub_path = rest.partition("/")
    namespace, _, claim = head.rpartition(":")
    return VolumeClaimUri(namespace, claim, _normal(sub_path))


def _read_vendor(rest: str) -> ModelUri:
    vendor, resource_type, resource_path = rest.split("/", 2)
    return VendorUri(vendor, resource_type, _normal(resource_path))


def _normal(path: str) -> str:
    """A path as its store has it: without empty parts, and with the character that each %XX stands for."""
    return unquote("/".join(part for part in path.split("/") if part), errors="strict")


# How the path of a URI names a byte that a URI cannot hold, so that each name has one spelling. What reads as a control
# character, "." or "/" is not among them.
_ENCODED = Condition(
    "([^%]|%[0-9A-Fa-f]{2})*",
    "must have two digits from 0 to F behind each '%', as in %20 for a space and %25 for '%' itself; '.' and '/' stand "
    "for themselves, and control characters for nothing",
    never="%([01]|2[EeFf]|7[Ff])",
)


def _revision_condition(example: str) -> Condition:
    return Condition(
        f"[^@]*(@{_REVISION})?",
        f"must name a Git branch, tag or commit after the @, as in {example}",
        never=f"@.*({_NO_REVISION})",
    )


def _bucket(scheme: str, container: str, *parameters: Parameter) -> Syntax:
    def read(rest: str) -> ModelUri:
        bucket, _, prefix = rest.partition("/")
        return BucketUri(scheme, bucket, _normal(prefix))

    return Syntax(
        scheme,
        f"<{container}>/<prefix>",
        (
            # What the three clouds allow or once allowed; so no credentials before an "@", which all could read.
            Condition(
                r"[A-Za-z0-9$][A-Za-z0-9._-]*(/.*)?",
                f"must name a {container}, as in {scheme}://my-{container}/llama-3-70b, and nothing else before the "
                "path; put credentials into a Secret",
            ),
        ),
        read,
        Listing.SOURCE,
        parameters=(*_PATTERNS, *parameters),
    )


SYNTAXES = (
    Syntax(
        "hf",
        "<organisation>/<model>[@<revision>]",
        (
            # Repository names of the Hugging Face Hub: one or two parts of letters, digits, "-", "_" and ".".
            Condition(
                r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@.*)?",
                "must be hf://<organisation>/<model>[@<revision>], as in hf://meta-llama/Llama-3.1-8B@main",
                never="^[^@]*([.][.]|--)",
            ),
            _revision_condition("hf://meta-llama/Llama-3.1-8B@main"),
        ),
        _repository_of(HuggingFaceUri),
        Listing.SOURCE,
        is_path=False,
        parameters=(
            *_PATTERNS,
            Parameter("cache_dir", "accepted, and without effect"),
            Parameter("endpoint", "another hub"),
            _REVISION_PARAMETER,
            Parameter("transport", "auto, http or xet"),
        ),
        secret_key=TOKEN_KEY,
    ),
    Syntax(
        "ms",
        "<owner>/<model>[@<revision>]",
        (
            Condition(
                r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@.*)?",
                "must be ms://<owner>/<model>[@<revision>], as in ms://Qwen/Qwen2.5-7B-Instruct@master",
                never="^[^@]*[.][.]",
            ),
            _revision_condition("ms://Qwen/Qwen2.5-7B-Instruct@master"),
        ),
        _repository_of(ModelScopeUri),
        Listing.SOURCE,
        is_path=False,
        parameters=(*_PATTERNS, Parameter("endpoint", "another hub"), _REVISION_PARAMETER),
        secret_key=TOKEN_KEY,
    ),
    Syntax(
        "oci",
        "n/<namespace>/b/<bucket>/o/<object path>",
        (
            Condition(
                "n/[^/]+/b/[^/]+/o(/.*)?",
                "must be oci://n/<namespace>/b/<bucket>/o/<object path>, as in "
                "oci://n/mycompany/b/models/o/llama/llama-3-70b/",
            ),
        ),
        _read_oracle,
        Listing.SOURCE,
        parameters=(
            *_PATTERNS,
            Parameter(_OLDER_AUTH_TYPE, f"another spelling of {AUTH_TYPE}", spelling_of=AUTH_TYPE),
            Parameter(
                AUTH_TYPE,
                f"whose identity signs: {', '.join(AUTH_TYPES[:-1])} or {AUTH_TYPES[-1]}",
                Condition("|".join(AUTH_TYPES), f"must be {', '.join(AUTH_TYPES[:-1])} or {AUTH_TYPES[-1]}"),
            ),
            Parameter("endpoint", "address of the service"),
            Parameter("region", "identifier of the bucket's region"),
        ),
        # Whatever Secret is named, the identity of a node or pod needs none.
        reads_secret=lambda parameters: named_auth_type(parameters) in ("", USER_PRINCIPAL),
    ),
    Syntax(
        "pvc",
        "[<namespace>:]<claim>/<path>",
        (
            Condition(
                "([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?:)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(/.*)?",
                "must be pvc://<claim>/<path> or pvc://<namespace>:<claim>/<path>, as in "
                "pvc://model-storage/llama-3-70b; names of namespaces and claims have lower-case letters, digits and "
                "'-'",
            ),
            Condition(".*", _STATE_SENTENCE, never=_STATE),
        ),
        _read_volume_claim,
        Listing.NODE,
        parameters=(_COMPLETENESS,),
        reads_secret=lambda parameters: False,
    ),
    Syntax(
        "vendor",
        "<vendor>/<resource type>/<resource path>",
        (
            Condition(
                "[^/]+/[^/]+/.+",
                "must be vendor://<vendor>/<resource type>/<resource path>, as in "
                "vendor://nvidia/models/llama-70b-tensorrt",
            ),
        ),
        _read_vendor,
        Listing.SOURCE_OR_NODE,
        # A driver's program is given all of them.
        parameters=None,
    ),
    Syntax(
        "local",
        "/<path>",
        (
            Condition("/.*[^/].*", "must name an absolute path with three slashes, as in local:///models/my-model"),
            Condition(".*", _STATE_SENTENCE, never=_STATE),
        ),
        lambda rest: LocalUri(f"/{_normal(rest)}"),
        Listing.NODE,
        parameters=(_COMPLETENESS,),
        reads_secret=lambda parameters: False,
    ),
    _bucket(
        "s3",
        "bucket",
        Parameter("endpoint", "address of the store"),
        Parameter("region", "region of the bucket"),
        _SKIP_SIGNATURE,
        Parameter("virtual_hosted_style", "'true' when the endpoint contains the bucket"),
    ),
    _bucket("gs", "bucket", Parameter("endpoint", "address of the store"), _SKIP_SIGNATURE),
    _bucket(
        "az",
        "container",
        Parameter("account_name", "name of the storage account"),
        Parameter("endpoint", "address of the store"),
        _SKIP_SIGNATURE,
    ),
)
_BY_SCHEME = {syntax.scheme: syntax for syntax in SYNTAXES}
SCHEMES = tuple(_BY_SCHEME)


def syntax_of(text: str) -> Syntax:
    """What is known of a storage URI's scheme. Raises InvalidValue InvalidUri for one that is not known."""
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in _BY_SCHEME:
        raise _invalid(text, f"must begin with one of {', '.join(f'{name}://' for name in SCHEMES)}")
    return _BY_SCHEME[scheme]


def parse_uri(text: str) -> ModelUri:
    """Understand a storage URI.

    Raises InvalidValue with reason InvalidUri; the message says what to write instead.
    """
    syntax = syntax_of(text)
    rest = text.removeprefix(f"{syntax.scheme}://")
    if any(character.isspace() or not character.isprintable() for character in text):
        advice = "; write %20 for a space" if syntax.is_path else ""
        raise _invalid(text, f"must not contain spaces or control characters{advice}")
    for condition in conditions_of(syntax):
        if not condition.holds(rest):
            raise _invalid(text, condition.sentence)
    if syntax.is_path and any(part in (".", "..") for part in rest.split("/")):
        raise _invalid(text, "must not contain '.' or '..' as a part of its path; write the path without them")
    try:
        return syntax.read(rest)
    except UnicodeDecodeError:
        raise _invalid(text, "must have characters of UTF-8 in its path, as in %C3%BC for an umlaut") from None


def check_parameters(text: str, parameters: Mapping[str, str]) -> None:
    """Refuse parameters that the scheme of a storage URI does not know, and two spellings of one.

    Raises InvalidValue with reason InvalidParameter; for a word that is most likely misspelt, the message names the
    nearest that is known.
    """
    syntax = syntax_of(text)
    if parameters.get(ALLOW_INCOMPLETE, "false") not in ("true", "false"):
        raise InvalidValue(
            Reason.INVALID_PARAMETER,
            f"storage.parameters.{ALLOW_INCOMPLETE} is {parameters[ALLOW_INCOMPLETE]!r}: it must be 'true' or 'false'",
        )
    if syntax.parameters is None:
        _refuse_misspelt(syntax.scheme, parameters)
        return
    known = sorted(parameter.name for parameter in syntax.parameters)
    for name in sorted(parameters.keys() - {*known, *CREDENTIAL_PARAMETERS}):
        nearest = difflib.get_close_matches(name, [*known, *CREDENTIAL_PARAMETERS], 1, _NEAR)
        meant = f": {_advice(nearest[0])}" if nearest else ""
        others = f"; there are {', '.join(known)}" if known else ", which has none"
        raise InvalidValue(
            Reason.INVALID_PARAMETER, f"storage.parameters.{name} does not exist for {syntax.scheme}://{meant}{others}"
        )
    for parameter in syntax.parameters:
        if parameter.spelling_of in parameters and parameter.name in parameters:
            raise InvalidValue(Reason.INVALID_PARAMETER, f"storage.parameters.{two_spellings(parameter)}")


def _advice(nearest: str) -> str:
    if nearest == TOKEN_PARAMETER:
        return f"if {nearest!r} is meant, put it into a Secret and name the Secret in storage.storageKey"
    return f"write {nearest!r} if that is meant"


def _refuse_misspelt(scheme: str, parameters: Mapping[str, str]) -> None:
    """Of a scheme whose drivers have words of their own, refuse what can hardly be one of those."""
    for name in sorted(parameters.keys() - set(_OUR_WORDS)):
        if nearest := difflib.get_close_matches(name, _OUR_WORDS, 1, _HARDLY_ANOTHER):
            raise InvalidValue(
                Reason.INVALID_PARAMETER,
                f"storage.parameters.{name} does not exist for {scheme}://: {_advice(nearest[0])}",
            )


def two_spellings(parameter: Parameter) -> str:
    """What to do about a parameter that stands beside the one whose spelling it is, after "parameters."."""
    usual, other = parameter.spelling_of, parameter.name
    return f"{usual} and parameters.{other} are two spellings of one setting: keep {usual} and remove {other}"


def allows_incomplete(parameters: Mapping[str, str]) -> bool:
    """Whether a model is to be used although files of it are known to be missing or damaged."""
    return parameters.get(ALLOW_INCOMPLETE) == "true"


def conditions_of(syntax: Syntax) -> tuple[Condition, ...]:
    """What must hold for the text behind "://" of a scheme."""
    return (*syntax.conditions, *((_ENCODED,) if syntax.is_path else ()))


def is_revision(text: str) -> bool:
    """Whether a text can be the name of a branch, tag or commit."""
    return bool(_REVISION_PARAMETER.value and _REVISION_PARAMETER.value.holds(text))


def named_auth_type(parameters: Mapping[str, str]) -> str:
    """Whose identity signs the requests to Oracle, as parameters say; empty when they do not.

    OME's own word for it is taken where ours is missing, and its values in either way that they are written in.
    """
    if named := parameters.get(AUTH_TYPE, "").strip():
        return named
    older = parameters.get(_OLDER_AUTH_TYPE, "").strip()
    spellings = {known.lower(): known for known in AUTH_TYPES}
    return spellings.get(older.replace("_", "").lower(), older)


def _invalid(text: str, why: str) -> InvalidValue:
    return InvalidValue(Reason.INVALID_URI, f"storageUri {text!r} {why}")

"""Schema of spec.storage: where a model comes from, where it lies, and on which nodes.

The rules on storageUri and its parameters are those of libs/artifact/uri.py, written in CEL; a test holds both against
each other.
"""

from collections.abc import Iterator, Sequence

from deploy.crd.revisions import REVISION_RULES, revision_fields
from deploy.crd.schema import Schema, integer, listing, mapping, rule, structure, text
from libs.artifact.specification import DOWNLOAD_PRIORITIES
from libs.artifact.uri import (
    ALLOW_INCOMPLETE,
    SECRET_WORDS,
    SYNTAXES,
    TOKEN_KEY,
    Parameter,
    Syntax,
    conditions_of,
    two_spellings,
)

_URI_FORMS = " or ".join(
    (", ".join(syntax.whole_form for syntax in SYNTAXES[:-1]), SYNTAXES[-1].whole_form),
)
_LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
_LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
_DNS_NAME = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$"


def _cel(pattern: str) -> str:
    """A regular expression as a string of CEL."""
    return "'" + pattern.replace("\\", "\\\\") + "'"


def _condition_rules(syntax: Syntax) -> Iterator[Schema]:
    """What stands behind the scheme must be as the services read it."""
    start = f"{syntax.scheme}://"
    for condition in conditions_of(syntax):
        expression = f"self.matches({_cel(f'^{start}({condition.pattern})$')})"
        if condition.never:
            anchored = condition.never.startswith("^")
            never = condition.never[1:] if anchored else f".*({condition.never})"
            expression = f"({expression} && !self.matches({_cel(f'^{start}{never}')}))"
        yield rule(f"!self.startsWith('{start}') || {expression}", condition.sentence)


def _parameter_rules(syntax: Syntax) -> Iterator[Schema]:
    """What the services would refuse; what else a source says of parameters is known when it is asked."""
    for parameter in syntax.parameters or ():
        if parameter.spelling_of:
            yield rule(
                f"!has(self.parameters) || !has(self.storageUri) || !self.storageUri.startsWith('{syntax.scheme}://')"
                f" || !('{parameter.name}' in self.parameters && '{parameter.spelling_of}' in self.parameters)",
                f"parameters.{two_spellings(parameter)}",
            )
        condition = parameter.value
        if condition is None:
            continue
        value = f"self.parameters['{parameter.name}']"
        expression = f"{value}.matches({_cel(f'^({condition.pattern})$')})"
        if condition.never:
            expression = f"({expression} && !{value}.matches({_cel(condition.never)}))"
        yield rule(
            f"!has(self.parameters) || !('{parameter.name}' in self.parameters) || !has(self.storageUri)"
            f" || !self.storageUri.startsWith('{syntax.scheme}://') || {expression}",
            f"parameters.{parameter.name} of an {syntax.scheme}:// model {condition.sentence}",
        )


def _parameter_meanings() -> str:
    """The parameters of each scheme, with those apart that all of them share."""
    known = {syntax.scheme: syntax.parameters for syntax in SYNTAXES if syntax.parameters}
    shared = [each for each in next(iter(known.values())) if all(each in parameters for parameters in known.values())]
    sentences = [f"{_meanings(shared)}."]
    for scheme, parameters in known.items():
        sentences.append(f"{scheme}://: {_meanings([each for each in parameters if each not in shared])}.")
    return " ".join(sentences)


def _meanings(parameters: Sequence[Parameter]) -> str:
    return ", ".join(f"{parameter.name} ({parameter.meaning})" for parameter in parameters)


_TOKEN_SCHEMES = " and ".join(f"{syntax.scheme}://" for syntax in SYNTAXES if syntax.secret_key)
_SCHEMES = "|".join(syntax.scheme for syntax in SYNTAXES)
_WITHOUT_PATH = "|".join(syntax.scheme for syntax in SYNTAXES if not syntax.is_path)
_URI_RULES = (
    rule(f"self.matches('^({_SCHEMES})://')", f"must begin with a known scheme; write {_URI_FORMS}"),
    rule(
        r"!self.matches('[\\pZ\\pC]')",
        "must not contain spaces or control characters; write %20 for a space in a path",
    ),
    *(each for syntax in SYNTAXES for each in _condition_rules(syntax)),
    rule(
        f"self.matches('^({_WITHOUT_PATH})://') || !self.matches('/[.][.]?(/|$)')",
        "must not contain '.' or '..' as a part of its path; write the path without them",
    ),
)
_CLUSTER_CLAIM_RULE = rule(
    "!self.startsWith('pvc://') || self.matches('^pvc://[^/]*:')",
    "must name the namespace of the claim, because the model is in none: write pvc://<namespace>:<claim>/<path>",
    computed="'must name the namespace of the claim, because the model is in none: write pvc://<namespace>:'"
    " + self.substring(6)",
)

_PATH_RULES = (
    rule(
        "self.startsWith('/')",
        "must be an absolute path on the node, as in /models/llama-3-70b",
        computed="'must be an absolute path on the node: write /' + self + ', or a directory below another model root'",
    ),
    rule(
        "!self.startsWith('/') || self.matches('[^/]')",
        "must name a directory below a model root, as in /models/llama-3-70b",
    ),
    rule("!self.matches('(^|/)[.][.]?(/|$)')", "must not contain '.' or '..'; write the path without them"),
    rule(
        "!self.matches('/[.]ome(/|$)')",
        "must not lead into .ome, where OME keeps the files of all models; choose a directory beside it",
    ),
    rule(r"!self.matches('\\pC')", "must not contain control characters"),
)

_REQUIREMENT_RULES = (
    rule(
        "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
        'operators In and NotIn need at least one value, as in values: ["GPU.A100.4"]',
        computed="'operator ' + self.operator + ' needs at least one value, as in values: [\"GPU.A100.4\"]'",
    ),
    rule(
        "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",
        "operators Exists and DoesNotExist take no values; remove them, or write In or NotIn",
        computed="'operator ' + self.operator + ' takes no values; remove them, or write '"
        " + (self.operator == 'Exists' ? 'In' : 'NotIn')",
    ),
    rule(
        "!(self.operator in ['Gt', 'Lt'])"
        " || (has(self.values) && size(self.values) == 1 && isQuantity(self.values[0]))",
        'operators Gt and Lt need exactly one value, a number or a quantity, as in values: ["500Gi"]',
        computed="'operator ' + self.operator"
        " + ' needs exactly one value, a number or a quantity, as in values: [\"500Gi\"]'",
    ),
)


def _label_requirement() -> Schema:
    return structure(
        "One condition on a label of a node.",
        *_REQUIREMENT_RULES,
        required=["key", "operator"],
        fields={
            "key": text(
                "Key of the label, such as node.kubernetes.io/instance-type.",
                rule(f"self.matches('{_LABEL_KEY}')", "must be a label key, as in node.kubernetes.io/instance-type"),
                maxLength=317,
            ),
            "operator": text(
                "Comparison of the label. In: the label has one of the values. NotIn: the label has another value, or "
                "the node lacks the label. Exists: the node has the label. DoesNotExist: the node lacks the label. "
                "Gt: the label is a larger number or quantity (500Gi) than the value. Lt: it is a smaller one.",
                enum=["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"],
            ),
            "values": listing(
                "Values to compare with: one or more for In and NotIn, none for Exists and DoesNotExist, one for Gt "
                "and Lt.",
                text("A value of the label, or the bound for Gt and Lt.", maxLength=63),
                maxItems=128,
            ),
        },
    )


def _field_requirement() -> Schema:
    return structure(
        "One condition on a field of a node. Its name is the only field that Kubernetes compares.",
        rule(
            "has(self.values) && size(self.values) == 1",
            "needs exactly one value, the name of a node; for several nodes, write one term of nodeSelectorTerms each",
        ),
        required=["key", "operator"],
        fields={
            "key": text("The field: metadata.name.", enum=["metadata.name"]),
            "operator": text("In: the node of that name; NotIn: every other node.", enum=["In", "NotIn"]),
            "values": listing(
                "The name of one node.",
                text("Name of a node, as kubectl get nodes shows it.", maxLength=253),
                maxItems=16,
            ),
        },
    )


def _term(description: str) -> Schema:
    return structure(
        description,
        fields={
            "matchExpressions": listing("Conditions on labels; all must hold.", _label_requirement(), maxItems=32),
            "matchFields": listing("Conditions on fields; all must hold.", _field_requirement(), maxItems=4),
        },
    )


def _node_affinity() -> Schema:
    return structure(
        "Conditions on the labels of nodes that hold the model, as in a Pod. OME evaluates them continuously: a node "
        "that stops matching loses the model at once. If you also set nodeSelector, a node must match both.",
        fields={
            "requiredDuringSchedulingIgnoredDuringExecution": structure(
                "Conditions that a node must meet to hold the model.",
                required=["nodeSelectorTerms"],
                fields={
                    "nodeSelectorTerms": listing(
                        "Alternatives: a node holds the model when it matches any of them.",
                        _term("Conditions that must all hold on one node. An empty term matches no node."),
                        rule("size(self) > 0", "must hold at least one term; remove nodeAffinity to allow every node"),
                        maxItems=32,
                    )
                },
            ),
            "preferredDuringSchedulingIgnoredDuringExecution": listing(
                "Preferences as in a Pod. They have no effect: every node that matches the required terms holds the "
                "model.",
                structure(
                    "A preference and its weight.",
                    required=["preference", "weight"],
                    fields={
                        "preference": _term("Conditions that a preferred node meets."),
                        "weight": integer("Weight from 1 to 100.", format="int32", minimum=1, maximum=100),
                    },
                ),
                maxItems=16,
            ),
        },
    )


def _toleration() -> Schema:
    return structure(
        "One toleration: of the taints with this key, value and effect.",
        rule(
            "has(self.key) && self.key != '' || (has(self.operator) && self.operator == 'Exists')",
            "must have a key, or the operator Exists, which without a key tolerates all taints",
        ),
        rule(
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "operator Exists takes no value; remove it, or write Equal",
        ),
        fields={
            "key": text("Key of the taint, such as nvidia.com/gpu. Without key, every taint.", maxLength=317),
            "operator": text(
                "Equal: the taint has the value. Exists: it has any value. The default is Equal.",
                enum=["Equal", "Exists"],
            ),
            "value": text("Value of the taint.", maxLength=63),
            "effect": text(
                "Effect of the taint. Without effect, every one.", enum=["NoSchedule", "PreferNoSchedule", "NoExecute"]
            ),
            "tolerationSeconds": integer("No effect; exists because Pods have it.", minimum=0),
        },
    )


def _secret_name(description: str) -> Schema:
    return text(
        description,
        rule(
            f"self.matches('{_DNS_NAME}')",
            "must be the name of a Secret: lower-case letters, digits, '-' and '.', as in huggingface-token",
        ),
        maxLength=253,
    )


def storage(*, cluster_scoped: bool) -> Schema:
    """The schema of spec.storage; cluster_scoped for a kind whose objects are in no namespace."""
    secret_place = (
        "the namespace of OME or the one that parameters.secretNamespace names"
        if cluster_scoped
        else "the namespace of the model"
    )
    claim_place = (
        "A pvc:// URI must name the namespace of the claim, because the model is in none."
        if cluster_scoped
        else "A pvc:// URI names a claim in the namespace of the model."
    )
    return structure(
        "Source of the model, its place on the nodes, and the nodes that hold it. It needs a storageUri.",
        rule(
            "!(has(self.storageKey) && has(self.key))",
            "storageKey and key are two spellings of one field; keep storageKey and remove key",
        ),
        *(each for syntax in SYNTAXES for each in _parameter_rules(syntax)),
        *REVISION_RULES,
        fields={
            "storageUri": text(
                f"Source of the model: {_URI_FORMS}. {claim_place}",
                *_URI_RULES,
                *((_CLUSTER_CLAIM_RULE,) if cluster_scoped else ()),
                maxLength=2048,
            ),
            "path": text(
                "Place of the model on each node: an absolute path below one of the model roots of the fetcher's "
                "chart, as in /models/llama. OME sets a symbolic link to the verified files there. Without path, OME "
                "chooses a place, and status.path names it.",
                *_PATH_RULES,
                maxLength=1024,
            ),
            "schemaPath": text(
                "The configuration file to parse instead of config.json, relative to the model's directory.",
                rule("!self.startsWith('/')", "must be relative to the model's directory, as in config.json"),
                rule("!self.matches('(^|/)[.][.](/|$)')", "must stay in the model's directory; remove '..'"),
                maxLength=1024,
            ),
            "storageKey": _secret_name(
                f"Name of the Secret, in {secret_place}, with the credentials for the source. For {_TOKEN_SCHEMES}, "
                f"the Secret holds the access token under the key {TOKEN_KEY}, or under the key that "
                "parameters.secretKey names."
            ),
            "key": _secret_name("Another spelling of storageKey. Give one of the two."),
            "parameters": mapping(
                f"Settings of the source. {_parameter_meanings()} For each: secretKey (key in the Secret; default "
                f"{TOKEN_KEY}) where the credentials are one token, and secretNamespace: namespace of the Secret of a "
                "cluster-scoped model, if the administrator permits it.",
                text("Value of the parameter.", maxLength=4096),
                rule(
                    "!('secretKey' in self) || self['secretKey'].matches('^[-._A-Za-z0-9]{1,253}$')",
                    "secretKey must be a key of the Secret: letters, digits, '-', '_' and '.', as in access-token",
                ),
                rule(
                    "!('secretNamespace' in self)"
                    " || self['secretNamespace'].matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",
                    "secretNamespace must be the name of a namespace: lower-case letters, digits and '-', as in "
                    "model-secrets",
                ),
                rule(
                    f"!('{ALLOW_INCOMPLETE}' in self) || self['{ALLOW_INCOMPLETE}'] in ['true', 'false']",
                    f'must have "true" or "false" as {ALLOW_INCOMPLETE}, in quotes',
                ),
                rule(
                    f"!self.exists(name, name.matches('{SECRET_WORDS}'))",
                    "must not hold keys or passwords, because everyone who may read the model could read them; put "
                    "them into a Secret and name the Secret in storageKey",
                ),
                rule(
                    "!('endpoint' in self) || !self['endpoint'].contains('@')",
                    "endpoint must not contain a user or password; put them into a Secret and name the Secret in "
                    "storageKey",
                ),
                maxProperties=64,
            ),
            "nodeSelector": mapping(
                "Labels of the nodes that hold the model: a node must have all of them. OME evaluates them "
                "continuously: a node that stops matching loses the model at once, even while Pods use it. Without "
                "nodeSelector and nodeAffinity, every node holds the model.",
                text(
                    "Value that the label must have.",
                    rule(
                        f"self.matches('{_LABEL_VALUE}')",
                        "must be a label value: at most 63 letters, digits, '-', '_' and '.', as in GPU.A100.4",
                    ),
                    maxLength=63,
                ),
                rule(
                    f"self.all(key, key.matches('{_LABEL_KEY}'))",
                    "must have label keys, as in node.kubernetes.io/instance-type",
                ),
                maxProperties=64,
            ),
            "nodeAffinity": _node_affinity(),
            "tolerations": listing(
                "Taints of nodes to which the model may come, as in a Pod. Without tolerations, taints do not matter. "
                "With them, and with an empty list, a node with another taint NoSchedule or NoExecute does not get the "
                "model; one that has it keeps it.",
                _toleration(),
                maxItems=32,
            ),
            "downloadPolicy": text(
                "No effect; exists for manifests of earlier versions of OME. OME never downloads bytes again that a "
                "node holds and has verified.",
                enum=["AlwaysDownload", "ReuseIfExists"],
            ),
            "downloadPriority": text(
                "Which models nodes fetch first: High before Standard, Standard before Background. Standard is the "
                "default. If the model has the annotation models.ome.io/priority, the annotation counts.",
                enum=list(DOWNLOAD_PRIORITIES),
            ),
            **revision_fields(),
        },
    )

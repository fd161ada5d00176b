"""Schema of spec.storage: where a model comes from, where it lies, and on which nodes.

The rules on storageUri say in CEL what libs/artifact/uri.py says in Python; a test holds both against each other.
"""

from deploy.crd.schema import Schema, integer, listing, mapping, rule, structure, text

_URI_FORMS = (
    "hf://<organisation>/<model>[@<revision>], oci://n/<namespace>/b/<bucket>/o/<object path>, "
    "pvc://[<namespace>:]<claim>/<path>, vendor://<vendor>/<resource type>/<resource path>, local:///<path>, "
    "s3://<bucket>/<prefix>, gs://<bucket>/<prefix> or az://<container>/<prefix>"
)
_LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
_LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
_DNS_NAME = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$"
# Says what services/controller/specification.py says; a test holds both against each other.
_SECRET_PARAMETER = (
    "(?i)(password|passphrase|(private|account|api|secret[-_]?access)[-_]?key|secret[-_]key|client[-_]?secret|"  # noqa: S105
    "(sas|session|access|auth|bearer|hf)[-_]?token)"
)
_REVISION = r"[A-Za-z0-9][A-Za-z0-9._/+-]*"

_URI_RULES = (
    rule(
        "self.matches('^(hf|oci|pvc|vendor|local|s3|gs|az)://')",
        f"must begin with a known scheme; write {_URI_FORMS}",
    ),
    rule(
        r"!self.matches('[\\pZ\\pC]')",
        "must not contain spaces or control characters; remove them",
    ),
    rule(
        r"!self.startsWith('hf://') || (self.matches('^hf://[A-Za-z0-9][\\w.-]*(/[A-Za-z0-9][\\w.-]*)?(@.*)?$')"
        " && !self.matches('^hf://[^@]*([.][.]|--)'))",
        "must be hf://<organisation>/<model>[@<revision>], as in hf://meta-llama/Llama-3.1-8B@main",
    ),
    rule(
        f"!self.matches('^hf://[^@]*@') || (self.matches('^hf://[^@]*@{_REVISION}$')"
        " && !self.matches('@.*([.][.]|//)'))",
        "must name a Git branch, tag or commit after the @, as in hf://meta-llama/Llama-3.1-8B@main",
    ),
    rule(
        "!self.startsWith('oci://') || self.matches('^oci://n/[^/]+/b/[^/]+/o(/.*)?$')",
        "must be oci://n/<namespace>/b/<bucket>/o/<object path>, as in oci://n/mycompany/b/models/o/llama/llama-3-70b/",
    ),
    rule(
        "!self.startsWith('pvc://') || self.matches("
        "'^pvc://([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?:)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(/.*)?$')",
        "must be pvc://<claim>/<path> or pvc://<namespace>:<claim>/<path>, as in pvc://model-storage/llama-3-70b; "
        "names of namespaces and claims have lower-case letters, digits and '-'",
    ),
    rule(
        "!self.startsWith('vendor://') || self.matches('^vendor://[^/]+/[^/]+/.+$')",
        "must be vendor://<vendor>/<resource type>/<resource path>, as in vendor://nvidia/models/llama-70b-tensorrt",
    ),
    rule(
        "!self.startsWith('local://') || self.matches('^local:///.*[^/]')",
        "must name an absolute path with three slashes, as in local:///models/my-model",
    ),
    rule(
        "!self.matches('^(s3|gs|az)://') || self.matches('^(s3|gs|az)://[A-Za-z0-9$][A-Za-z0-9._-]*(/|$)')",
        "must name a bucket, as in s3://my-bucket/llama-3-70b, and nothing else before the path: credentials belong "
        "into a Secret",
    ),
    rule(
        "self.startsWith('hf://') || !self.matches('/[.][.]?(/|$)')",
        "must not contain '.' or '..' as a part of its path; write the path that is meant",
    ),
)
_CLUSTER_CLAIM_RULE = rule(
    "!self.startsWith('pvc://') || self.matches('^pvc://[^/]*:')",
    "must name the namespace of the claim, as the model is in none: write pvc://<namespace>:<claim>/<path>",
    computed="'must name the namespace of the claim, as the model is in none: write pvc://<namespace>:'"
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
    rule("!self.matches('(^|/)[.][.]?(/|$)')", "must not contain '.' or '..'; write the path that is meant"),
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
                "How to compare the label. In: its value is one of values. NotIn: it is none of them, or the node "
                "lacks the label. Exists, DoesNotExist: the node has or lacks the label. Gt, Lt: its value is a larger "
                "or smaller number or quantity (500Gi) than the one value.",
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
            "needs exactly one value, the name of a node; for several nodes write one of nodeSelectorTerms for each",
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
        "Which nodes hold the model, by conditions on their labels, as in a Pod. OME evaluates them continuously: a "
        "node that stops matching loses the model at once. A node must match nodeSelector as well if both are given.",
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
                "Accepted as in a Pod, without effect: every node that matches the required terms holds the model.",
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
        "the operator's namespace or the one that parameters.secretNamespace names"
        if cluster_scoped
        else "the namespace of the model"
    )
    claim_place = (
        "A pvc:// URI must name the namespace of the claim."
        if cluster_scoped
        else "A pvc:// URI means a claim in the namespace of the model and cannot name another."
    )
    return structure(
        "Where the model comes from, where it lies on the nodes, and which nodes hold it. Without storageUri, OME "
        "fetches nothing.",
        rule(
            "!(has(self.storageKey) && has(self.key))",
            "storageKey and key are two spellings of one field; keep storageKey and remove key",
        ),
        rule(
            "!has(self.parameters) || !('auth_type' in self.parameters) || !has(self.storageUri)"
            " || !self.storageUri.startsWith('oci://') || self.parameters['auth_type'] in"
            " ['InstancePrincipal', 'UserPrincipal', 'ResourcePrincipal', 'OkeWorkloadIdentity']",
            "parameters.auth_type of an oci:// model must be InstancePrincipal, UserPrincipal, ResourcePrincipal or "
            "OkeWorkloadIdentity",
        ),
        rule(
            "!has(self.parameters) || !('revision' in self.parameters) || !has(self.storageUri)"
            f" || !self.storageUri.startsWith('hf://') || (self.parameters['revision'].matches('^{_REVISION}$')"
            " && !self.parameters['revision'].matches('[.][.]|//'))",
            "parameters.revision of an hf:// model must be a Git branch, tag or commit, as in main",
        ),
        fields={
            "storageUri": text(
                f"Where the model comes from: {_URI_FORMS}. {claim_place}",
                *_URI_RULES,
                *((_CLUSTER_CLAIM_RULE,) if cluster_scoped else ()),
                maxLength=2048,
            ),
            "path": text(
                "Where the model lies on each node: an absolute path below one of the model roots of the fetcher's "
                "chart, as in /models/llama. OME sets a symbolic link to the verified files there. Without path, OME "
                "chooses a place; status.path says which.",
                *_PATH_RULES,
                maxLength=1024,
            ),
            "schemaPath": text(
                "The configuration file to parse instead of config.json, relative to the model's directory.",
                rule("!self.startsWith('/')", "must be relative to the model's directory, as in config.json"),
                rule("!self.matches('(^|/)[.][.](/|$)')", "must stay in the model's directory; write it without '..'"),
                maxLength=1024,
            ),
            "storageKey": _secret_name(
                f"Name of the Secret, in {secret_place}, with the credentials for the source. For hf://, the access "
                "token is under the key token, or under the key that parameters.secretKey names."
            ),
            "key": _secret_name("Another spelling of storageKey. Give one of the two."),
            "parameters": mapping(
                "Settings of the source. hf://: revision (branch, tag or commit), endpoint, transport (auto, http or "
                "xet), secretKey (key in the Secret; default token), cache_dir (no effect). oci://: region, endpoint, "
                "auth_type (InstancePrincipal, UserPrincipal, ResourcePrincipal or OkeWorkloadIdentity). Buckets: "
                "region, endpoint, account_name, skip_signature, virtual_hosted_style. allowPatterns and "
                "ignorePatterns choose files. secretNamespace: namespace of the Secret of a cluster-scoped model, if "
                "the administrator permits it.",
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
                    f"!self.exists(name, name.matches('{_SECRET_PARAMETER}'))",
                    "must not hold keys or passwords, which everyone who may read the model could read; put them into "
                    "a Secret and name that in storageKey",
                ),
                rule(
                    "!('endpoint' in self) || !self['endpoint'].contains('@')",
                    "endpoint must not contain a user or password; put them into a Secret and name that in storageKey",
                ),
                maxProperties=64,
            ),
            "nodeSelector": mapping(
                "Labels that a node must have, each with exactly this value, to hold the model. OME evaluates them "
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
            "downloadPolicy": text(
                "Accepted for manifests of earlier versions of OME, without effect: OME never downloads bytes again "
                "that a node holds and has verified.",
                enum=["AlwaysDownload", "ReuseIfExists"],
            ),
        },
    )

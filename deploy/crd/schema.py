"""Words to write an OpenAPI v3 schema of Kubernetes with. Knows nothing of models."""

from typing import Any

Schema = dict[str, Any]


def text(description: str, *rules: Schema, **extra: Any) -> Schema:
    """A string; a rule needs maxLength among extra, because the API server bounds the cost of rules by it."""
    return _with_rules({"type": "string", "description": description, **extra}, rules)


def integer(description: str, **extra: Any) -> Schema:
    """A whole number of 64 bits, unless extra says another format."""
    return {"type": "integer", "format": "int64", "description": description, **extra}


def number(description: str, **extra: Any) -> Schema:
    """A number that need not be whole."""
    return {"type": "number", "format": "double", "description": description, **extra}


def flag(description: str, **extra: Any) -> Schema:
    """A boolean."""
    return {"type": "boolean", "description": description, **extra}


def structure(description: str, *rules: Schema, fields: dict[str, Schema], **extra: Any) -> Schema:
    """An object with known fields."""
    return _with_rules({"type": "object", "description": description, **extra, "properties": fields}, rules)


def mapping(description: str, values: Schema, *rules: Schema, **extra: Any) -> Schema:
    """An object with free keys."""
    return _with_rules({"type": "object", "description": description, **extra, "additionalProperties": values}, rules)


def listing(description: str, items: Schema, *rules: Schema, **extra: Any) -> Schema:
    """A list that is replaced as a whole, unless extra says another list type."""
    kind = {"type": "array", "description": description, "x-kubernetes-list-type": "atomic", **extra, "items": items}
    return _with_rules(kind, rules)


def free_form(description: str) -> Schema:
    """Any JSON value: a structural schema cannot say "object or string", so an admission policy does."""
    return {"description": description, "x-kubernetes-preserve-unknown-fields": True}


def rule(expression: str, message: str, *, computed: str | None = None) -> Schema:
    """A CEL rule. message says what to write instead; computed is CEL for a message with the user's own values."""
    found = {"rule": expression, "message": message}
    return found | ({"messageExpression": computed} if computed else {})


def _with_rules(schema: Schema, rules: tuple[Schema, ...]) -> Schema:
    return schema | ({"x-kubernetes-validations": list(rules)} if rules else {})

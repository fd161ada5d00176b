"""The error of every pure value here: what was given, what is wrong with it, what to write instead."""


class InvalidValue(ValueError):
    """A value that a user or an origin supplied cannot be used as it stands.

    reason is the CamelCase name of an ome.model.v1.Reason, such as "InvalidUri".
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

"""Which folders below a model root are OME's own, and which model each belongs to. Pure.

Paths are relative to a model root and have "/" between parts.
"""

# Holds what fetchers keep below a root: downloads, verified files, records.
STATE_DIRECTORY = ".ome"
# The first parts of the default paths of each kind: the kind's name in lower case.
BASE_MODELS = "basemodel"
KIND_FOLDERS = (BASE_MODELS, "clusterbasemodel", "finetunedweight")


def own_place(kind: str, namespace: str, name: str) -> str:
    """The default place of a model: <kind>[/<namespace>]/<name>, kind in lower case. No other model may stand there."""
    return "/".join((kind.lower(), *([namespace] if namespace else []), name))


def namespace_folder(namespace: str) -> str:
    """The folder that holds the default places of a namespace's models."""
    return f"{BASE_MODELS}/{namespace}"


def leads_into_state(path: str) -> bool:
    """Whether some part of a path is the folder that fetchers keep for themselves."""
    return STATE_DIRECTORY in path.split("/")


def overlap(one: str, other: str) -> bool:
    """Whether two paths are the same, or one is above the other."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")

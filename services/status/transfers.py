"""The transfers under way, and which of them a watcher has to be told of again. Must not do I/O."""

from collections.abc import Callable, Iterable

from ome.fetch.v1.fetch_pb2 import FileProgress, Progress
from ome.model.v1.model_pb2 import NODE_PHASE_UPDATING, REASON_DOWNLOADING
from ome.status.v1.status_pb2 import Model, Transfer, TransferFile


class Told:
    """What one watcher of progress was told last of each transfer."""

    def __init__(self, progress_of: Callable[[str, str], Progress | None], node: str = "") -> None:
        """progress_of gives the figures by node and uid of the model; node, if given, is the only one of interest."""
        self._progress_of = progress_of
        self._node = node
        self._told: dict[str, dict[str, Transfer]] = {}

    def changes(self, uid: str, model: Model | None) -> list[Transfer]:
        """The transfers of a model that have changed since they were told; those that have ended once more."""
        before = self._told.pop(uid, {})
        now = {} if model is None else {each.node: each for each in self._under_way(model)}
        if now:
            self._told[uid] = now
        changed = [each for node, each in now.items() if each != before.get(node)]
        for node in before.keys() - now.keys():
            ended = Transfer()
            ended.CopyFrom(before[node])
            ended.ended = True
            ended.bytes_per_second = ended.eta_seconds = 0
            ended.ClearField("files")
            changed.append(ended)
        return sorted(changed, key=lambda each: each.node)

    def _under_way(self, model: Model) -> Iterable[Transfer]:
        for node in model.nodes:
            if node.phase != NODE_PHASE_UPDATING or node.reason != REASON_DOWNLOADING:
                continue
            if self._node not in ("", node.node):
                continue
            figures = self._progress_of(node.node, model.ref.uid) or Progress(
                bytes_done=node.bytes_done, bytes_total=node.bytes_total
            )
            yield Transfer(
                model=model.ref,
                node=node.node,
                bytes_done=figures.bytes_done,
                bytes_total=figures.bytes_total,
                files_done=figures.files_done,
                files_total=figures.files_total,
                bytes_per_second=figures.bytes_per_second,
                eta_seconds=figures.eta_seconds,
                files=map(_file, figures.files),
            )


def _file(said: FileProgress) -> TransferFile:
    return TransferFile(
        path=said.path,
        bytes_done=said.bytes_done,
        bytes_total=said.bytes_total,
        bytes_per_second=said.bytes_per_second,
        eta_seconds=said.eta_seconds,
    )

"""Gathers what was taken in of a directory as evidence of whether the model is whole. Must not judge it."""

from libs.artifact.completeness import Evidence, Verdict, judge
from services.parser.intake import Directory


def judge_directory(directory: Directory) -> Verdict:
    """Whether the files of a directory make up the whole model."""
    kinds = {path: {tensor.dtype for tensor in header.tensors.values()} for path, header in directory.headers.items()}
    sound = [
        path
        for path, header in directory.ggufs.items()
        if header.is_whole
        and path not in directory.damaged
        and not any("type " in each for each in header.bytes_by_type)
    ]
    return judge(
        Evidence(
            sizes=directory.sizes,
            indexes=directory.named,
            documents=directory.documents,
            damaged=directory.damaged,
            tensor_types=kinds,
            sound={*sound, *directory.archives},
            read=True,
        )
    )

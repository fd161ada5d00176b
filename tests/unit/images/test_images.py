"""An image is what its Dockerfile says, and the same content has the same digest."""

import os
from pathlib import Path

import pytest

from tools.images import build, check, dockerfile, layout


@pytest.mark.parametrize("service", build.SERVICES)
def test_the_dockerfile_of_each_service_can_be_read(service: str) -> None:
    image = dockerfile.read((build.IMAGES / service / "Dockerfile").read_text(), "/usr/bin")

    theirs, ours, last = image.stages
    assert last.copied == [theirs.name, ours.name]
    assert "--scope=deps" in theirs.commands[0]
    assert "--scope=srcs" in ours.commands[0]
    assert image.entrypoint == ["python", "-m", f"services.{service}"]
    assert image.environment["PATH"] == "/app/bin:/usr/bin"
    assert image.user == "65532:65532"


@pytest.mark.parametrize(
    "line", ["VOLUME /data", "COPY . /app", "COPY --from=ours /etc /etc", "ADD x /x", 'SHELL ["/bin/bash"]']
)
def test_what_the_builder_does_not_do_is_refused(line: str) -> None:
    with pytest.raises(dockerfile.UnknownInstruction, match=line.split(maxsplit=1)[0]):
        dockerfile.read(f"FROM x AS y\n{line}\n", "/usr/bin")


def tree(folder: Path, time: int, *, reverse: bool) -> Path:
    for name in sorted(("b/two", "a/one", "a/three"), reverse=reverse):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.utime(path, (time, time))
    (folder / "link").symlink_to("a/one")
    return folder


def test_the_same_files_make_the_same_layer_whenever_they_were_written(tmp_path: Path) -> None:
    one = layout.layer(tree(tmp_path / "one", 1, reverse=False), "test")
    other = layout.layer(tree(tmp_path / "other", 99, reverse=True), "test")

    assert one == other


def test_an_archive_holds_its_layers_in_order(tmp_path: Path) -> None:
    below, above = tmp_path / "below", tmp_path / "above"
    for folder, word in ((below, "old"), (above, "new")):
        folder.mkdir()
        (folder / "file").write_text(word)
    content = layout.archive(
        [layout.layer(below, "below"), layout.layer(above, "above")],
        {"User": "1:1"},
        "1970-01-01T00:00:00Z",
        "x/y:z",
        "amd64",
    )

    check.unpack(content, tmp_path / "root")
    assert (tmp_path / "root" / "file").read_text() == "new"
    assert check.config(content)["config"] == {"User": "1:1"}
    assert len(check.config(content)["rootfs"]["diff_ids"]) == len(check.manifest(content)["layers"]) == 2

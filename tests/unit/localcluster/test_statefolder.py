import os
from pathlib import Path

import pytest

from tools.localcluster.statefolder import FolderInUse, StateFolder


def test_folder_of_strangers_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FolderInUse), StateFolder(tmp_path).claimed():
        pass
    assert (tmp_path / "thesis.txt").exists()


def test_claim_empties_what_an_earlier_cluster_left_and_is_exclusive(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    with folder.claimed():
        (folder.path / "etcd").mkdir()
        assert folder.running_pid() == os.getpid()
        with pytest.raises(FolderInUse, match=str(os.getpid())), folder.claimed():
            pass
    assert folder.running_pid() is None
    with folder.claimed():
        assert not (folder.path / "etcd").exists()
        assert folder.path.stat().st_mode & 0o077 == 0


def test_env_file_can_be_read_back_and_goes_with_the_cluster(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    with folder.claimed():
        assert folder.read_env() is None
        variables = {"KUBECONFIG": "/a folder/kubeconfig", "HF_ENDPOINT": "", "NODES": "node-1,node-2"}
        folder.write_env(variables)
        assert folder.read_env() == variables
    assert folder.read_env() is None

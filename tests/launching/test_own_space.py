import os
import tempfile
from pathlib import Path

import pytest

from dist_llm.launching.own_space import SEGMENTS, own_space


@pytest.mark.parametrize("named", [True, False])
def test_a_job_leaves_nothing_in_its_own_folders(tmp_path, monkeypatch, named):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "memory").mkdir()
    with own_space({SEGMENTS: str(tmp_path / "memory")} if named else {}) as names:
        files, segments = Path(names["TMPDIR"]), Path(names[SEGMENTS])
        assert files.parent == tmp_path
        assert segments.parent == (tmp_path / "memory" if named else Path("/dev/shm"))
        (files / "session").mkdir()
        (segments / "segment").write_bytes(bytes(100))
    assert [path.name for path in tmp_path.iterdir()] == ["memory"]
    assert not segments.exists()


def test_what_cannot_be_removed_does_not_end_the_launcher(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with own_space({}) as names:
        os.rmdir(names["TMPDIR"])
        os.rmdir(names[SEGMENTS])

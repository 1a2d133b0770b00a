"""Archives on their way to the worker: found when they are complete, and never left behind."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from common.adapters.uploads import KEEP_S, Uploads


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads")


def receive(uploads: Uploads, content: bytes = b"archive") -> str:
    with uploads.receive() as upload:
        upload.file.write(content)
        assert not uploads.path(upload.id).exists()
    return upload.id


def test_a_complete_upload_is_found_and_private(uploads: Uploads) -> None:
    path = uploads.path(receive(uploads))
    assert path.read_bytes() == b"archive"
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path.parent, path)] == [0o700, 0o600]


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path, uploads: Uploads) -> None:
    def breaking_off() -> None:
        with uploads.receive() as upload:
            upload.file.write(b"arch")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        breaking_off()
    assert list((tmp_path / "uploads").iterdir()) == []


def test_a_removed_upload_is_gone(uploads: Uploads) -> None:
    upload_id = receive(uploads)
    uploads.remove(upload_id)
    uploads.remove(upload_id)
    assert not uploads.path(upload_id).exists()


def test_tidying_up_takes_only_what_nobody_needs(tmp_path: Path, uploads: Uploads) -> None:
    uploads.tidy(lambda _: False)
    old, new, waiting = receive(uploads), receive(uploads), receive(uploads)
    for one in (old, waiting):
        os.utime(uploads.path(one), (0, time.time() - KEEP_S - 1))
    killed = tmp_path / "uploads" / "x.partial"
    killed.write_text("arch")
    with uploads.receive() as upload:
        Uploads(tmp_path / "uploads").tidy(lambda job_id: job_id == waiting)
        assert not killed.exists()
    assert (uploads.path(old).exists(), uploads.path(new).exists()) == (False, True)
    assert uploads.path(upload.id).exists()
    assert uploads.path(waiting).exists(), "the job with this id is still open"

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from fxhelpers.system import create_exclusive, folder_digest, write_atomic


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "file"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_of_many_at_once_exactly_one_creates_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda n: create_exclusive(path, bytes([n])), range(64)))
    assert won.count(True) == 1
    assert path.read_bytes() == bytes([won.index(True)])


def test_who_finds_a_new_file_finds_all_of_it(tmp_path: Path) -> None:
    """Of two first seals both read one id of the folder, and neither an empty one."""
    for n in range(200):
        path, start = tmp_path / str(n), Barrier(2)

        def seal(word: bytes, path: Path = path, start: Barrier = start) -> bytes:
            start.wait()
            create_exclusive(path, word)
            return path.read_bytes()

        with ThreadPoolExecutor(2) as pool:
            assert len(set(pool.map(seal, (b"one", b"two")))) == 1
        assert path.read_bytes()


def test_a_file_system_without_links_has_new_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(_path: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", unsupported)
    assert [create_exclusive(tmp_path / "file", word) for word in (b"one", b"two")] == [True, False]
    assert (tmp_path / "file").read_bytes() == b"one"
    assert list(tmp_path.glob(".*.tmp")) == []


def test_a_folders_digest_knows_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = folder_digest(tmp_path)
    (tmp_path / "a").write_text("2")
    second = folder_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, folder_digest(tmp_path)}) == 3

"""Arrays in files that are damaged, forged or no arrays: every one is read, or refused with one error that says what is wrong."""

import errno
import io
import os
import random
import struct
import zipfile
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from model_export.array_files import open_archive, read_array
from model_export.errors import ArrayFileError


def saved(array: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def headed(shape: str) -> bytes:
    """A .npy of a few bytes that says it has another shape."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(100)


def archived(x: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        archive.writestr("x.npy", x)
    return content.getvalue()


def changed(archive: bytes, flags: int = 0, method: int = 0) -> bytes:
    """Its members are said to be encrypted, or packed otherwise."""
    out = bytearray(archive)
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        begin = out.find(mark)
        out[begin + place] |= flags
        out[begin + place + 2] |= method
    return bytes(out)


ARRAYS = {
    "no header's end": b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',",
    "only brackets": headed("(((((((("),
    "more than there is memory": headed("(1000000000000, 16)"),
    "more than can be counted": headed("(10000000000000000000000, 16)"),
    "less than nothing": headed("(-1, 16)"),
    "cut off": saved(np.zeros(100))[:-9],
    "objects": saved(np.array([{}], object)),
}
ARCHIVES: Dict[str, bytes] = {
    **{name: archived(content) for name, content in ARRAYS.items()},
    "text": archived(b"hello"),
    "encrypted": changed(archived(saved(np.zeros(3))), flags=1),
    "packed otherwise": changed(archived(saved(np.zeros(3))), method=99),
    "damaged xz": archived(saved(np.zeros(99)), zipfile.ZIP_LZMA).replace(b"\x5d\x00\x00", b"\xff\xff\xff", 1),
    "damaged bzip2": archived(saved(np.zeros(99)), zipfile.ZIP_BZIP2).replace(b"1AY", b"9AZ", 1),
    "cut off archive": archived(saved(np.zeros(99)))[:60],
}


def read_all(content: bytes) -> None:
    with open_archive(io.BytesIO(content)) as archive:
        for name in archive.names:
            archive[name]


@pytest.mark.parametrize("kind", ARRAYS)
def test_a_file_that_holds_no_array(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(ARRAYS[kind])
    with pytest.raises(ArrayFileError, match=f"^{path}: is no readable .npy file: ."):
        read_array(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a,b\n1,2\n", "is no .npy file, which numpy.save writes$"),
        (b"", "is no .npy file"),
        (archived(saved(np.zeros(3))), "holds several arrays"),
    ],
)
def test_a_file_that_is_something_else(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(ArrayFileError, match=f"^{path}: {reason}"):
        read_array(path)
    with pytest.raises(ArrayFileError, match="there is no such file"):
        read_array(tmp_path / "none.npy")


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_that_holds_no_array(kind: str) -> None:
    with pytest.raises(ArrayFileError):
        read_all(ARCHIVES[kind])


def test_an_array_is_no_archive() -> None:
    with pytest.raises(ArrayFileError, match="a single array"):
        read_all(saved(np.zeros(3)))


def test_what_is_in_them_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(saved(np.arange(3)))
    assert read_array(tmp_path / "x.npy").tolist() == [0, 1, 2]
    with open_archive(io.BytesIO(archived(saved(np.arange(3)), zipfile.ZIP_DEFLATED))) as archive:
        assert archive.names == ["x"]
        assert archive["x"].tolist() == [0, 1, 2]


@pytest.mark.filterwarnings("ignore")
def test_whichever_bytes_are_changed(tmp_path: Path) -> None:
    """Nothing but ArrayFileError comes of any of them."""
    draw = random.Random(5)
    seeds = [
        saved(np.arange(40.0)),
        archived(saved(np.arange(40.0)), zipfile.ZIP_DEFLATED),
        archived(saved(["a", "bb"])),
    ]
    path, refused = tmp_path / "x.npy", 0
    for _ in range(1500):
        content = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(1, 5)):
            place = draw.randrange(len(content))
            content[place : place + draw.randrange(3)] = bytes(draw.randrange(256) for _ in range(draw.randrange(3)))
        path.write_bytes(content)
        for read in (lambda: read_array(path), lambda data=bytes(content): read_all(data)):
            try:
                read()
            except ArrayFileError:
                refused += 1
    assert refused > 1000


class Failing(io.BytesIO):
    """A file on a disk that cannot give what stands in one place of it."""

    def __init__(self, content: bytes, place: int) -> None:
        super().__init__(content)
        self._place = place

    def read(self, size: "int | None" = -1) -> bytes:
        begin = self.tell()
        content = super().read(size)
        if begin <= self._place < begin + len(content):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return content


@pytest.mark.parametrize("place", [0, 40, 600])
def test_a_disk_that_fails_is_not_a_damaged_file(place: int) -> None:
    """Writing the file again is no help then; who opened it knows its name, and says what failed."""
    file = Failing(archived(saved(np.zeros(50_000, np.float32))), place)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), open_archive(file) as archive:
        archive["x"]

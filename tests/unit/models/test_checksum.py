"""The checksum inside of a saved model, without a framework."""

import zipfile

import pytest

from convscope.errors import IntegrityError
from convscope.models._checksum import add_checksum, require_whole


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "last.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model.weights.h5", b"weights")
    return path


def test_a_changed_byte_is_found_and_what_was_inside_stays(archive):
    add_checksum(archive)
    require_whole(archive)
    with zipfile.ZipFile(archive) as file:
        assert file.read("model.weights.h5") == b"weights"
    content = bytearray(archive.read_bytes())
    content[45] ^= 1
    archive.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"last\.keras"):
        require_whole(archive)


def test_an_archive_whose_end_cannot_be_read_gets_no_checksum(archive, monkeypatch):
    with monkeypatch.context() as patch:
        # So zipfile takes a failing seek.
        patch.setattr(zipfile, "_EndRecData", lambda file: None)
        with pytest.raises(OSError, match="Input/output"):
            add_checksum(archive)
    with zipfile.ZipFile(archive) as file:
        assert file.comment == b""

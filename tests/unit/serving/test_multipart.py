"""Files in a form."""

import pytest

from convscope.serving.limits import RefusedError
from convscope.serving.multipart import files_in


def test_parts_of_a_form_are_counted(monkeypatch):
    def form(n_parts: int) -> bytes:
        head = b'--b\r\ncontent-disposition: form-data; name="f"; filename="a"\r\n\r\n'
        return (head + b"x\r\n") * n_parts + b"--b--\r\n"

    monkeypatch.setattr("convscope.serving.multipart._MOST_PARTS", 2)
    assert files_in(form(2), "multipart/form-data; boundary=b") == [("a", b"x")] * 2
    with pytest.raises(RefusedError, match="more than 2 parts") as refused:
        files_in(form(3), "multipart/form-data; boundary=b")
    assert refused.value.status == 413

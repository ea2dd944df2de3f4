"""The explorer's page as a file: its modules, its policy, and what it holds."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from convscope.errors import ConvscopeError
from convscope.explorer import document
from convscope.explorer.document import PAGE, bundle, explorer_text, write_explorer
from convscope.explorer.packing import pack_bytes, pack_floats
from convscope.explorer.payload import Payload


def test_the_modules_compute_what_can_be_checked_by_hand():
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    file = Path(__file__).with_name("arithmetic.test.mjs")
    done = subprocess.run([node, "--test", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^# pass 12$", done.stdout, re.MULTILINE)


def test_all_modules_are_in_the_page_once_after_what_they_import():
    text = bundle("main.mjs")
    order = re.findall(r"^// (\w+\.mjs)$", text, re.MULTILINE)
    assert sorted(order) == sorted(file.name for file in PAGE.glob("*.mjs"))
    for place, name in enumerate(order):
        source = (PAGE / name).read_text("utf-8")
        imported = set(re.findall(r'from "\./(\w+\.mjs)"', source))
        assert imported <= set(order[:place])
    assert not re.search(r"^(import|export)\b", text, re.MULTILINE)
    # Nothing that asks for anything.
    assert not re.search(r"https?:|fetch\(|XMLHttpRequest|WebSocket|importScripts", text)


@pytest.mark.parametrize(
    "line", ['import * as all from "./a.mjs";', "export default 1;", 'import x from "./a.mjs";']
)
def test_other_forms_of_import_and_export_are_refused(line, tmp_path, monkeypatch):
    monkeypatch.setattr(document, "PAGE", tmp_path)
    (tmp_path / "b.mjs").write_text(f"{line}\n")
    with pytest.raises(ConvscopeError, match=r"^b\.mjs: '.*' cannot be bundled$"):
        bundle("b.mjs")


def test_a_name_that_is_not_utf8_can_be_written(tmp_path):
    write_explorer(Payload({"run": "a", "file": "caf\udce9.png"}), tmp_path / "a.html")
    assert r"Inside a: caf\udce9.png" in (tmp_path / "a.html").read_text("utf-8")


def test_its_policy_allows_its_own_script_and_styles_and_no_request():
    name = "</script><script>alert(1)</script> {{ script }}"
    payload = Payload({"run": name, "file": "<b>.png", "classes": [name]}, ["AAAA"])
    text = explorer_text(payload)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none';")
    for tag in ("script", "style"):
        opening = '<script type="module">' if tag == "script" else "<style>"
        (content,) = re.findall(rf"{opening}(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy
    assert text.count("<script") == text.count("</script>") == 3
    (held,) = re.findall(r'id="payload">(.*?)</script>', text, re.DOTALL)
    assert json.loads(held) == payload.document
    assert "<b>" not in text.replace("</b>", "")


def test_arrays_are_packed_without_loss():
    values = np.random.default_rng(3).normal(size=(5, 7)).astype(np.float32)
    planes = np.frombuffer(zlib.decompress(base64.b64decode(pack_floats(values))), np.uint8)
    unpacked = planes.reshape(4, -1).T.copy().view("<f4").reshape(5, 7)
    np.testing.assert_array_equal(unpacked, values)
    pixels = np.arange(256, dtype=np.uint8)
    assert zlib.decompress(base64.b64decode(pack_bytes(pixels))) == pixels.tobytes()

"""The explorer's page as one file: template, styles, modules and payload put together."""

import base64
import hashlib
import html
import importlib.metadata
import json
import re
from pathlib import Path

from convscope.errors import ConvscopeError
from convscope.explorer.payload import Payload
from convscope.storage import write_text
from convscope.wording import in_utf8

PAGE = Path(__file__).parent / "page"
"""Folder of the template, the styles and the modules."""

_IMPORT = re.compile(r'^import \{([\w, ]+)\} from "\./([\w]+\.mjs)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:async )?(?:function\*? |class |const )(\w+)", re.MULTILINE)


def write_explorer(payload: Payload, path: Path) -> None:
    """Write the page as one HTML file.

    Args:
        payload: Contents of the page.
        path: File.

    Raises:
        StorageError: If the file cannot be written.
    """
    # A name of a file need not be UTF-8.
    write_text(path, in_utf8(explorer_text(payload)))


def explorer_text(payload: Payload) -> str:
    """Return the text of the page.

    Its content policy allows this script and these styles only, by their hashes, and no request.

    Args:
        payload: Contents of the page.
    """
    script, style = bundle("main.mjs"), (PAGE / "page.css").read_text("utf-8")
    # "<" would let a name of a class or file end the element.
    data = json.dumps(payload.document, ensure_ascii=False, separators=(",", ":"))
    data = data.replace("<", "\\u003c")
    blobs = "\n".join(
        f'<script type="text/plain" id="blob-{number}">{text}</script>'
        for number, text in enumerate(payload.blobs)
    )
    values = {
        "title": html.escape(f"Inside {payload.document['run']}: {payload.document['file']}"),
        "version": html.escape(importlib.metadata.version("convscope")),
        "script_hash": _hash(script),
        "style_hash": _hash(style),
        "style": style,
        "script": script,
        "payload": data,
        "blobs": blobs,
    }
    template = (PAGE / "page.html").read_text("utf-8")
    # In one pass: nothing in a value is taken as a placeholder.
    return re.sub(r"\{\{ (\w+) \}\}", lambda match: values[match[1]], template)


def bundle(entry: str) -> str:
    """Return a module and all that it imports as one module; each keeps a scope of its own.

    Imports have the form `import { a, b } from "./c.mjs";` on one line, exports stand before a
    declaration, and no two modules import each other.

    Args:
        entry: Name of the file below `PAGE`.

    Raises:
        ConvscopeError: If an import or export has another form.
    """
    parts: dict[str, str] = {}

    def add(name: str) -> None:
        if name in parts:
            return
        text = (PAGE / name).read_text("utf-8").strip()
        for _, imported in _IMPORT.findall(text):
            add(imported)
        text = _IMPORT.sub(r'const {\1} = modules["\2"];', text)
        exported = ", ".join(_EXPORT.findall(text))
        text = _EXPORT.sub(lambda match: match[0].removeprefix("export "), text)
        if left := re.search(r"^(?:import|export)\b.*$", text, re.MULTILINE):
            raise ConvscopeError(f"{name}: '{left[0]}' cannot be bundled")
        if exported:
            text = f'modules["{name}"] = (() => {{\n{text}\nreturn {{ {exported} }};\n}})();'
        parts[name] = f"// {name}\n{text}\n"

    add(entry)
    return "\nconst modules = {};\n" + "\n".join(parts.values())


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")

"""The tables in docs/settings.md: every setting, with its default, its values and what it is.

They are written from `RunConfig`, so they cannot say anything else. After a change of a setting:

    python tests/docs/test_settings.py
"""

import json
from pathlib import Path
from typing import Any

from convscope.recipe import RunConfig, setting_descriptions, setting_names

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

HEAD = """\
# Settings

`--set KEY=VALUE` changes any of these, `--config FILE` several (YAML), and \
`convscope recipes show NAME` prints all of them with the values of a recipe, as such a file. The \
defaults below are those of a run without a recipe; [recipes](training.md#settings), built-in \
datasets and some models have others. A test writes this page from the code.
"""

TITLES = {
    "": "Training, data and run",
    "optimizer": "Optimizer",
    "schedule": "Schedule of the learning rate",
    "start": "Initial weights",
    "augment": "Augmentation of training images",
    "filter": "Data filtering",
    "progressive": "Progressive resizing",
    "tta": "Test-time augmentation",
    "head": "Head on a backbone",
    "backbone": "Backbone",
    "split": "Division into training, validation and test images",
}


def values(field: dict[str, Any]) -> str:
    """Return the values that a field of the schema takes, in words."""
    kinds = field.get("anyOf", [field])
    if any(kind.get("type") == "boolean" for kind in kinds):
        return "true, false"
    for kind in kinds:
        if "enum" in kind:
            return ", ".join(map(str, kind["enum"]))
    bounds = [
        f"{words} {kind[key]:g}" if kind[key] < 2**32 else "below 2^32"
        for kind in kinds
        for key, words in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        )
        if key in kind
    ]
    return ", ".join(bounds)


def page() -> str:
    """Return the text of the page."""
    schema = RunConfig.model_json_schema()
    groups: dict[str, dict[str, Any]] = {"": {}}
    for name, field in schema["properties"].items():
        if "$ref" in field:
            own = schema["$defs"][field["$ref"].rpartition("/")[2]]
            groups[name] = own["properties"]
        else:
            groups[""][name] = field
    text = HEAD
    for group, fields in groups.items():
        text += (
            f"\n## {TITLES[group]}\n\n| setting | default | values | meaning |\n|---|---|---|---|\n"
        )
        for name, field in fields.items():
            key = f"{group}.{name}" if group else name
            default = json.dumps(field["default"]).strip('"')
            about = setting_descriptions()[key].replace("|", r"\|")
            text += f"| `{key}` | {default} | {values(field)} | {about} |\n"
    return text


def test_every_setting_is_described():
    found = setting_descriptions()
    assert tuple(sorted(found)) == setting_names()
    assert not [name for name, about in found.items() if not about]


def test_the_page_says_what_the_settings_are():
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""A page as Markdown, for places that show no HTML: a model hub, a repository."""

from pathlib import Path

from convscope.report.page import (
    Bars,
    Beside,
    Block,
    Box,
    Code,
    Command,
    Heading,
    Link,
    Page,
    Picture,
    Points,
    Table,
    Text,
)
from convscope.storage import write_text
from convscope.wording import in_utf8


def write_markdown(page: Page, path: Path) -> None:
    """Write a page as Markdown; pictures become their captions and descriptions.

    Raises:
        StorageError: If the file cannot be written.
    """
    parts = [f"# {_plain(page.title)}", _plain(page.about), f"**{_plain(page.verdict)}**"]
    parts += [f"> {_plain(page.caution)}"] if page.caution else []
    for section in page.sections:
        parts.append(f"## {_plain(section.heading)}")
        parts += [block_as_markdown(block) for block in section.blocks]
    write_text(path, in_utf8("\n\n".join(parts) + "\n"))


def block_as_markdown(block: Block) -> str:
    """Return a block as Markdown; pictures become their captions and descriptions."""
    match block:
        case Text():
            return _plain(block.text)
        case Points():
            return "\n".join(
                f"- {_plain(sentence)}" + (f" {_plain(more)}" if more else "")
                for sentence, more in block.items
            )
        case Command():
            return f"```bash\n{block.text}\n```"
        case Heading():
            return f"### {_plain(block.text)}"
        case Code():
            return f"```{block.language}\n{block.text}\n```"
        case Link():
            return f"[{_plain(block.text)}](<{block.address}>)"
        case Beside():
            return "\n\n".join(map(block_as_markdown, block.blocks))
        case Box():
            inside = "\n\n".join(map(block_as_markdown, block.blocks))
            return f"**{_plain(block.title)}**\n\n{inside}"
        case Bars():
            shown = "\n".join(f"- {_plain(bar.name)}: {_plain(bar.text)}" for bar in block.bars)
            return f"{_plain(block.caption)}\n\n{shown}"
        case Picture():
            said = block.alt if block.caption in block.alt else f"{block.caption} {block.alt}"
            return _plain(said)
        case Table():
            lines = [block.columns, ["---"] * len(block.columns), *block.rows]
            rows = ["| " + " | ".join(map(_plain, line)) + " |" for line in lines]
            return "\n".join([_plain(block.caption), "", *rows])


def _plain(text: str) -> str:
    """Return text without markup: names of classes and files are untrusted."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())

"""A page for people: one HTML file with everything in it, for screens of any size and for paper.

Its content is made of a few kinds of blocks; their looks are in `templates/page.html`. The page
loads nothing and runs nothing: pictures are embedded, and its content policy forbids everything
else.
"""

import base64
import datetime
import importlib.metadata
import io
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from convscope.storage import write_text
from convscope.wording import in_utf8

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"

_LONGEST_NUMBER = 20
"""Characters; an interval such as "+11.17 to +29.02" has fewer."""


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
        text: Literal text; nothing in it is markup.
        small: Whether it is a reading aid, in small letters.
    """

    text: str
    small: bool = False
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Points:
    """A list of sentences.

    Attributes:
        items: Sentences, each with an addition in smaller letters (may be empty).
    """

    items: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "points"


@dataclass(frozen=True)
class Table:
    """Rows under named columns; the first column names the row.

    Attributes:
        columns: Names of the columns.
        rows: Cells as they are shown, one per column.
        caption: Caption of the table.
        best: Index of the row in bold, by column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    best: dict[int, int] = field(default_factory=dict)
    kind: ClassVar[str] = "table"

    @property
    def text_columns(self) -> set[int]:
        """Indices of the columns of words, which wrap; all others are aligned at the right."""
        return {
            place
            for place in range(1, len(self.columns))
            if any(len(row[place]) > _LONGEST_NUMBER for row in self.rows)
        }


@dataclass(frozen=True)
class Picture:
    """A picture with a caption that states what it shows.

    Attributes:
        source: Address with the scheme `data:`; see `svg_picture`.
        alt: Description for readers who cannot see it.
        caption: Sentence that it shows.
        width: Largest width in CSS pixels.
        legend: Reading aid; may be empty.
    """

    source: str
    alt: str
    caption: str
    width: int
    legend: str = ""
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True)
class Command:
    """A command line to copy.

    Attributes:
        text: Command line.
    """

    text: str
    kind: ClassVar[str] = "command"


@dataclass(frozen=True)
class Link:
    """A link to a file beside the page.

    Attributes:
        file: Name of the file.
        text: Words of the link.
    """

    file: str
    text: str
    kind: ClassVar[str] = "link"

    @property
    def address(self) -> str:
        """Address, in which any name is a file of this folder and no address of another kind."""
        return f"./{urllib.parse.quote(self.file)}"


@dataclass(frozen=True)
class Heading:
    """A heading inside a section.

    Attributes:
        text: Heading in a few words.
    """

    text: str
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Code:
    """Lines of a language of programming, or of mathematics.

    Attributes:
        text: Source text.
        title: What it is written with, in a word or two.
        language: Name of the language.
    """

    text: str
    title: str
    language: str = "python"
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Bar:
    """A fraction to be drawn as a bar.

    Attributes:
        name: Name of the bar.
        value: Fraction in [0, 1]; None draws no bar.
        text: The value as it is shown.
        low: Lower end of its interval; None draws none.
        high: Upper end of its interval.
        foreign: Whether it is a figure of somebody else, in a paler colour.
    """

    name: str
    value: float | None
    text: str
    low: float | None = None
    high: float | None = None
    foreign: bool = False


@dataclass(frozen=True)
class Bars:
    """Fractions as bars below each other, on a scale from 0 to 1.

    Attributes:
        bars: Bars from above.
        caption: Sentence that they show.
        legend: Reading aid; may be empty.
    """

    bars: Sequence[Bar]
    caption: str
    legend: str = ""
    kind: ClassVar[str] = "bars"


@dataclass(frozen=True)
class Beside:
    """Blocks side by side where there is room.

    Attributes:
        blocks: Two blocks.
    """

    blocks: Sequence["Block"]
    kind: ClassVar[str] = "beside"


@dataclass(frozen=True)
class Box:
    """Blocks in a frame, apart from the text.

    Attributes:
        title: Title of the frame.
        blocks: Contents of the frame.
    """

    title: str
    blocks: Sequence["Block"]
    kind: ClassVar[str] = "box"


Block = Text | Points | Table | Picture | Command | Heading | Code | Link | Bars | Beside | Box


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading.

    Attributes:
        heading: Heading in a few words.
        blocks: Contents below it.
        folded: Whether it is closed until the reader opens it.
    """

    heading: str
    blocks: Sequence[Block]
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        title: Subject of the page.
        about: Subject in one line.
        verdict: Main message, one sentence.
        sections: Sections in order.
        caution: Caveat of the verdict; may be empty.
        language: Code of its language.
        contents: Title of a list of its sections; without one there is no list.
        footer: Last line, with places for {version} and {date}.
    """

    title: str
    about: str
    verdict: str
    sections: Sequence[Section]
    caution: str = ""
    language: str = "en"
    contents: str = ""
    footer: str = "Made by convscope {version} on {date}."


def write_page(page: Page, path: Path) -> None:
    """Write a page as one HTML file.

    Raises:
        StorageError: If the file cannot be written.
    """
    import jinja2

    # Everything is escaped: names of classes, files and runs are untrusted.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    footer = page.footer.format(version=importlib.metadata.version("convscope"), date=made)
    text = environment.get_template("page.html").render(page=page, footer=footer)
    # A name of a file or folder need not be UTF-8.
    write_text(path, in_utf8(text))


def svg_picture(
    figure: "Figure", *, alt: str, caption: str, legend: str = "", letters: bool = False
) -> Picture:
    """Return a matplotlib figure as a picture that stays sharp at every size.

    Args:
        figure: Figure; it is closed afterwards.
        alt: Description, see `Picture`.
        caption: Caption, see `Picture`.
        legend: Reading aid, see `Picture`.
        letters: Whether the reader's device draws the letters, in fonts of its own: for languages
            for which there may be no font here.
    """
    from matplotlib import rc_context

    from convscope.report.figures import as_written, drawing

    as_written(figure)
    held = io.BytesIO()
    # Outlines of letters: the reader's device need not have the font.
    how = {"svg.fonttype": "none" if letters else "path", "svg.hashsalt": "convscope"}
    with drawing(), rc_context(how):
        figure.savefig(held, format="svg", metadata={"Date": None})
    source = "data:image/svg+xml;base64," + base64.b64encode(held.getvalue()).decode("ascii")
    return Picture(source, alt, caption, round(96 * figure.get_figwidth()), legend)

"""The words of the tutorial in other languages: gettext catalogues, a `.po` file for each.

The English sentences in the code are the keys. A language is one file, `languages/ko.po`, in the
format that gettext's tools and Poedit read; it is read as it is, so nothing has to be compiled.
"""

import ast
import gettext
from pathlib import Path

from convscope.errors import UnknownNameError

LANGUAGES = Path(__file__).parent / "languages"

_SOURCE = "en"
"""Language of the sentences in the code."""


class Words(gettext.NullTranslations):
    """Translations of one language.

    Args:
        language: Code of the language ("ko").
        catalogue: Translation of each English sentence; a missing one stays English.
    """

    def __init__(self, language: str, catalogue: dict[str, str]) -> None:
        super().__init__()
        self.language = language
        self._catalogue = catalogue

    def gettext(self, message: str) -> str:
        """Return the translation of a sentence."""
        return self._catalogue.get(message) or message


def languages() -> list[str]:
    """Return the codes of all languages."""
    return sorted({_SOURCE, *(file.stem for file in LANGUAGES.glob("*.po"))})


def words_in(language: str) -> Words:
    """Return the words of a language.

    Raises:
        UnknownNameError: If there is no catalogue of it.
    """
    if language not in languages():
        raise UnknownNameError("language", language, languages())
    if language == _SOURCE:
        return Words(_SOURCE, {})
    text = (LANGUAGES / f"{language}.po").read_text(encoding="utf-8")
    return Words(language, read_catalogue(text))


def read_catalogue(text: str) -> dict[str, str]:
    r"""Return the translations in the text of a `.po` file; those marked as fuzzy do not count.

    Args:
        text: Entries of `msgid` and `msgstr`, each with strings on one or several lines. Plurals
            and contexts are not used here.

    Examples:
        >>> read_catalogue(
        ...     'msgid "one "\n"image"\nmsgstr "이미지"\n\n#, fuzzy\nmsgid "a"\nmsgstr "b"'
        ... )
        {'one image': '이미지'}
    """
    found: dict[str, str] = {}
    for entry in text.split("\n\n"):
        said = {"msgid": "", "msgstr": ""}
        place = ""
        fuzzy = False
        for line in entry.splitlines():
            fuzzy |= line.startswith("#,") and "fuzzy" in line
            word, _, rest = line.partition(" ")
            if word in said:
                place, line = word, rest
            if place and line.startswith('"'):
                # The escapes of gettext are those of Python.
                said[place] += ast.literal_eval(line)
        # The entry without a key describes the file.
        if said["msgid"] and said["msgstr"] and not fuzzy:
            found[said["msgid"]] = said["msgstr"]
    return found

"""Published sets on a web server."""

from dataclasses import dataclass
from pathlib import Path

from convscope.datasets.published.collection import Parts, Reader
from convscope.download import download
from convscope.progress import Progress


@dataclass(frozen=True)
class HttpSource:
    """Official files on a web server.

    Attributes:
        base: URL of their folder, with the slash at the end.
        md5: MD5 of each file, by its name.
        read: Function that decodes the folder with all of them.
    """

    base: str
    md5: dict[str, str]
    read: Reader

    @property
    def origin(self) -> str:
        """The URL of the file, or of the folder if there are several."""
        return self.base + next(iter(self.md5)) if len(self.md5) == 1 else self.base

    def fetch(self, folder: Path, progress: Progress) -> Parts:
        """Download all files and decode them; see `Source.fetch`."""
        for name, md5 in self.md5.items():
            download(self.base + name, f"md5:{md5}", folder / name, progress)
        return self.read(folder, progress)

"""Downloads over HTTP: checked by hash, retried, and resumed where they broke off."""

import os
from pathlib import Path
from typing import Any

from convscope.errors import DownloadError, IntegrityError, MissingExtraError, StorageError
from convscope.progress import Progress
from convscope.storage import storage_errors

_RETRIES = 3
_CONNECT_S, _SILENCE_S = 10.0, 60.0
_CHUNK_BYTES = 256 * 1024


def download(url: str, digest: str | None, path: Path, progress: Progress) -> None:
    """Download `url` to `path`, unless a file with this hash exists already.

    A transfer that breaks off is resumed where it stopped, now or at the next call; if the server
    cannot do that, or the whole turns out wrong, it starts again. The part that has arrived is in a
    file next to `path` whose name ends in `.partial`.

    Args:
        url: Address of the file.
        digest: Algorithm and hash that it must have, "md5:..." or "sha256:..."; None if none is
            published, in which case only its length is checked.
        path: Target file.
        progress: Called with the bytes.

    Raises:
        DownloadError: If the server cannot be reached or does not have the file.
        IntegrityError: If the file has another hash, each time.
        MissingExtraError: If the package that downloads is not installed.
        StorageError: If the file cannot be written.
    """
    try:
        import pooch
        import requests
    except ImportError as error:
        raise MissingExtraError("pooch", "train") from error

    # Progress reports the download; pooch's own lines would repeat it.
    pooch.get_logger().setLevel("ERROR")
    shelf = pooch.create(
        path=path.parent,
        base_url="",
        registry={path.name: digest},
        urls={path.name: url},
        retry_if_failed=_RETRIES,
    )
    try:
        with storage_errors(path):
            shelf.fetch(path.name, downloader=_Resuming(path, progress))
    except requests.RequestException as error:
        raise DownloadError(f"{url}: {_reason(error)}") from error
    except ValueError as error:
        raise IntegrityError(
            f"{url} is not the published file (its {str(digest).replace(':', ' is not ')})"
        ) from error
    except StorageError:
        _partial(path).unlink(missing_ok=True)
        raise
    except OSError as error:
        raise StorageError(f"cannot write {path} ({error})") from error


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


class _Resuming:
    """A pooch downloader that keeps what arrived when a transfer breaks off."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self._path = path
        self._partial = _partial(path)
        self._progress = progress

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        import requests
        import urllib3

        del pooch
        have = self._partial.stat().st_size if self._partial.exists() else 0
        # Without compression in transit: the file is hashed as it is published.
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            response = requests.get(
                url, headers=headers, stream=True, timeout=(_CONNECT_S, _SILENCE_S)
            )
        except (requests.ConnectTimeout, requests.ConnectionError) as error:
            if "Connection aborted" in str(error):
                raise  # the server responded: worth another attempt
            # pooch would retry for seconds, in vain, while there are other sources.
            raise DownloadError(f"{url}: {_reason(error)}") from error
        with response:
            if 400 <= response.status_code < 500 and response.status_code != 416:
                raise DownloadError(
                    f"{url}: the server answers {response.status_code} ({response.reason})"
                )
            if response.status_code == 416:  # the partial file is longer than the whole one
                self._partial.unlink(missing_ok=True)
            response.raise_for_status()
            resumes = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if response.status_code != 206 or not resumes:
                have = 0
            try:
                self._save(response, have)
            except urllib3.exceptions.HTTPError as error:
                raise requests.ConnectionError(
                    f"the transfer broke off ({_reason(error)})"
                ) from error
        os.replace(self._partial, output_file)

    def _save(self, response: Any, have: int) -> None:
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        label = f"Downloading {self._path.name}"
        with (
            self._progress.task(label, total, "B") as step,
            self._partial.open("ab" if have else "wb") as out,
        ):
            if have:
                step(have, note=f"resumed at {have / 1e6:.1f} MB")
            # The raw stream: requests would unpack what some servers declare as gzip.
            for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
                out.write(chunk)
                step(len(chunk))


def _reason(error: Exception) -> str:
    """Return one short line for the nested errors of an HTTP library.

    Examples:
        >>> _reason(OSError("HTTPSConnectionPool(...): [Errno 111] Connection refused"))
        'connection refused'
    """
    text = " ".join(str(error).split())
    known = {
        "Connection refused": "connection refused",
        "resolve": "the host name cannot be resolved (no network?)",
        "timed out": "no answer in time",
        "unreachable": "the network is unreachable",
        "CERTIFICATE": "its certificate cannot be verified",
        "ProxyError": "the proxy does not let it through",
    }
    for sign, reason in known.items():
        if sign in text:
            return reason
    return text[:200] or type(error).__name__

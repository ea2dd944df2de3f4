"""Weights that are found, fetched, refused and loaded; the networks are small, but Keras' own."""

import dataclasses
import functools
import hashlib
import http.server
import os
import shutil
import threading
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications import efficientnet
from keras.src.legacy.saving import legacy_h5_format

from convscope.errors import DataError, DownloadError, IntegrityError
from convscope.models.backbones import BACKBONES, WeightsFile, keras_application
from convscope.models.weights import (
    FoundWeights,
    find_weights,
    is_published,
    load_weights,
    weights_at_hand,
)
from convscope.progress import Progress

REAL = os.environ.get("CONVSCOPE_WEIGHTS")
NOWHERE = "http://127.0.0.1:9/tiny_no_top.h5"
SHAPE = (32, 32, 3)


class Listener(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def task(self, label: str, total: int | None, unit: str):
        self.tasks.append(label)
        return super().task(label, total, unit)


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """No weights anywhere, and an empty cache of Keras."""
    monkeypatch.delenv("CONVSCOPE_WEIGHTS", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.applications.MobileNetV2(
        alpha=0.35, weights=None, include_top=False, input_shape=SHAPE
    )


@pytest.fixture(scope="module")
def files(network, tmp_path_factory) -> dict[str, Path]:
    """The same weights in each layout that Keras writes."""
    folder = tmp_path_factory.mktemp("files")
    published, own = folder / "tiny_no_top.h5", folder / "tiny.weights.h5"
    save_legacy(network, published)
    network.save_weights(own)
    network.save(folder / "whole.h5")
    return {"published": published, "own": own, "whole": folder / "whole.h5"}


@pytest.fixture
def tiny(files):
    """A backbone whose published file no server has."""
    return backbone_for(NOWHERE, digest_of(files["published"]))


def digest_of(file: Path, algorithm: str = "md5") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, file.read_bytes()).hexdigest()}"


def backbone_for(url: str, digest: str | None):
    return dataclasses.replace(
        BACKBONES.get("mobilenet_v2"),
        name="tiny_net",
        build=keras_application("MobileNetV2", alpha=0.35),
        weights=WeightsFile("tiny_no_top.h5", url, digest),
    )


def save_legacy(model: keras.Model, path: Path) -> None:
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def found(path: Path) -> FoundWeights:
    return FoundWeights(path, "--weights", hashlib.sha256(path.read_bytes()).hexdigest())


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@functools.cache
def unloaded() -> keras.Model:
    return keras_application("MobileNetV2", alpha=0.35)(SHAPE)


def chain(*kernels: int) -> keras.Model:
    inputs = x = keras.Input(SHAPE)
    for kernel in kernels:
        x = keras.layers.Conv2D(3, kernel, padding="same")(x)
    return keras.Model(inputs, x)


class TestLoading:
    @pytest.mark.parametrize("layout", ["published", "own", "whole"])
    def test_every_weight_of_the_file_arrives(self, tiny, network, files, layout):
        trunk = unloaded()
        trunk.set_weights([np.zeros_like(weight) for weight in trunk.get_weights()])
        assert not same(trunk.get_weights(), network.get_weights())
        load_weights(trunk, tiny, found(files[layout]))
        assert same(trunk.get_weights(), network.get_weights())

    def test_long_lists_of_names_are_read_from_all_their_parts(
        self, tiny, network, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(legacy_h5_format, "HDF5_OBJECT_HEADER_LIMIT", 1000)
        path = tmp_path / "parts.h5"
        save_legacy(network, path)
        with h5py.File(path) as file:
            assert "layer_names1" in file.attrs
        trunk = unloaded()
        trunk.set_weights([np.zeros_like(weight) for weight in trunk.get_weights()])
        load_weights(trunk, tiny, found(path))
        assert same(trunk.get_weights(), network.get_weights())

    def test_a_network_for_images_of_another_size_takes_them_too(self, tiny, network, files):
        trunk = tiny.build((48, 40, 3))
        load_weights(trunk, tiny, found(files["published"]))
        assert same(trunk.get_weights(), network.get_weights())

    def test_the_state_of_an_optimizer_is_passed_over(self, tiny, tmp_path):
        trained = chain(3, 1, 5)
        trained.compile("adam", "mse")
        trained.optimizer.build(trained.trainable_variables)
        path = tmp_path / "trained.weights.h5"
        trained.save_weights(path)
        with h5py.File(path) as file:
            assert "optimizer" in file
        trunk = chain(3, 1, 5)
        load_weights(trunk, tiny, found(path))
        assert same(trunk.get_weights(), trained.get_weights())

    def test_what_keras_does_after_loading_is_done(self, tiny, files):
        seen = []
        load_weights(
            trunk := unloaded(),
            dataclasses.replace(tiny, after_loading=seen.append),
            found(files["own"]),
        )
        assert seen == [trunk]


@functools.cache
def in_another_width() -> keras.Model:
    return keras_application("MobileNetV2", alpha=0.5)(SHAPE)


@functools.cache
def with_classifier() -> keras.Model:
    return keras.applications.MobileNetV2(alpha=0.35, weights=None, input_shape=SHAPE)


class TestRefusal:
    """The network must be as it was, whatever was wrong; so all of them can share one."""

    @staticmethod
    def refused(backbone, path: Path, match: str, trunk=None) -> None:
        trunk = trunk or unloaded()
        before = trunk.get_weights()
        with pytest.raises(DataError, match=match) as error:
            load_weights(trunk, backbone, found(path))
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
        assert same(trunk.get_weights(), before)

    @pytest.mark.parametrize("layout", ["published", "own"])
    @pytest.mark.parametrize("part", [0.05, 0.5, 0.999])
    def test_a_file_that_is_cut_off(self, tiny, files, tmp_path, layout, part):
        data = files[layout].read_bytes()
        path = tmp_path / files[layout].name
        path.write_bytes(data[: int(part * len(data))])
        self.refused(tiny, path, "truncated or damaged")

    @pytest.mark.parametrize("layout", ["published", "own"])
    def test_a_file_with_garbage_in_its_structure(self, tiny, files, tmp_path, layout):
        data = bytearray(files[layout].read_bytes())
        for start in range(2048, len(data), 64 * 1024):
            data[start : start + 1024] = b"\xff" * 1024
        path = tmp_path / files[layout].name
        path.write_bytes(data)
        self.refused(tiny, path, "damaged|another network|not finite|no weights")

    @pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x80\x04cos\nsystem\n."])
    def test_a_file_that_is_no_hdf5(self, tiny, tmp_path, content):
        path = tmp_path / "tiny.weights.h5"
        path.write_bytes(content)
        self.refused(tiny, path, "is not an HDF5 file")

    def test_a_file_of_something_else(self, tiny, tmp_path):
        path = tmp_path / "table.h5"
        with h5py.File(path, "w") as file:
            file["measurements"] = np.arange(5)
        self.refused(tiny, path, "no weights of a Keras network")

    @pytest.mark.parametrize("layout", ["legacy", "own"])
    def test_the_same_architecture_in_another_width(self, tiny, tmp_path, layout):
        other = in_another_width()
        path = tmp_path / ("other.h5" if layout == "legacy" else "other.weights.h5")
        save_legacy(other, path) if layout == "legacy" else other.save_weights(path)
        self.refused(tiny, path, r"another network than tiny_net: 260 arrays, of which \d+ do")

    @pytest.mark.parametrize("layout", ["legacy", "own"])
    def test_the_classifier_besides(self, tiny, tmp_path, layout):
        # Keras itself would load one of the two and say nothing of what was left over.
        whole = with_classifier()
        path = tmp_path / ("top.h5" if layout == "legacy" else "top.weights.h5")
        save_legacy(whole, path) if layout == "legacy" else whole.save_weights(path)
        self.refused(tiny, path, "with its classifier; .*'notop'")

    def test_a_deeper_network_that_begins_alike(self, tmp_path):
        # All of VGG16's shapes occur in VGG19; here with few channels.
        backbone = dataclasses.replace(BACKBONES.get("mobilenet_v2"), name="chain")
        path = tmp_path / "deep.weights.h5"
        chain(3, 3, 3, 3).save_weights(path)
        self.refused(backbone, path, "another network than chain: 8 arrays", trunk=chain(3, 3, 3))

    def test_the_right_shapes_in_the_wrong_order(self, tiny, tmp_path):
        for name in ("swapped.h5", "swapped.weights.h5"):
            path = tmp_path / name
            swapped = chain(3, 5, 1)
            save_legacy(swapped, path) if name == "swapped.h5" else swapped.save_weights(path)
            self.refused(tiny, path, "does not hold the weights", trunk=chain(3, 1, 5))

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("layout", ["published", "own", "whole"])
    def test_a_value_that_is_not_finite(self, tiny, network, files, tmp_path, layout, value):
        path = tmp_path / files[layout].name
        shutil.copy(files[layout], path)
        with h5py.File(path, "r+") as file:
            arrays = []
            file.visititems(lambda _, item: arrays.append(item) if hasattr(item, "shape") else None)
            kernel = next(array for array in arrays if array.ndim == 4)
            kernel[0, 0, 0, 0] = value
        self.refused(tiny, path, "not finite")

    def test_an_array_that_lives_in_another_file(self, tiny, files, tmp_path):
        path = tmp_path / "linked.weights.h5"
        shutil.copy(files["own"], path)
        with h5py.File(path, "r+") as file:
            layout = h5py.VirtualLayout((16,), "float32")
            layout[:] = h5py.VirtualSource("/etc/hostname", "x", (16,))
            name = "layers/batch_normalization/vars/0"
            del file[name]
            file.create_virtual_dataset(name, layout)
        self.refused(tiny, path, "links to another file")

    def test_a_link_behind_an_array_that_makes_up_for_its_shape(self, tiny, files, tmp_path):
        path = tmp_path / "linked.weights.h5"
        shutil.copy(files["own"], path)
        with h5py.File(path, "r+") as file:
            name = "layers/batch_normalization/vars/0"
            file.move(name, "layers/besides/vars/0")
            file[name] = h5py.ExternalLink(files["own"], name)
        self.refused(tiny, path, "links to another file")

    def test_a_link_into_another_file(self, tiny, files, tmp_path):
        path = tmp_path / "linked.h5"
        shutil.copy(files["published"], path)
        with h5py.File(path, "r+") as file:
            del file["Conv1"]
            file["Conv1"] = h5py.ExternalLink(files["published"], "Conv1")
            assert "weight_names" in file["Conv1"].attrs  # HDF5 itself would follow it
        self.refused(tiny, path, "damaged")

    @pytest.mark.parametrize(
        ("layout", "name"), [("own", "mine.h5"), ("published", "mine.weights.h5")]
    )
    def test_a_name_by_which_keras_would_misread_it(self, tiny, files, tmp_path, layout, name):
        path = tmp_path / name
        shutil.copy(files[layout], path)
        self.refused(tiny, path, "rename it")


class TestFinding:
    def test_the_file_that_the_user_names(self, tiny, files):
        result = find_weights(tiny, str(files["own"]), Progress())
        assert result == FoundWeights(
            files["own"], "--weights", hashlib.sha256(files["own"].read_bytes()).hexdigest()
        )

    @pytest.mark.parametrize(
        "name",
        [
            "tiny_no_top.h5",
            "tiny_net_notop.weights.h5",
            "tinynet_notop.weights.h5",
            "tiny_net.weights.h5",
        ],
    )
    def test_a_folder_is_searched_for_the_known_names(self, tiny, tmp_path, monkeypatch, name):
        folder = tmp_path / "weights"
        folder.mkdir()
        monkeypatch.setenv("CONVSCOPE_WEIGHTS", str(folder))
        assert weights_at_hand(tiny) is None
        (folder / name).write_bytes(b"x")
        assert weights_at_hand(tiny) == folder / name
        assert find_weights(tiny, None, Progress()).origin == "$CONVSCOPE_WEIGHTS"
        assert find_weights(tiny, folder, Progress()).origin == "--weights"

    def test_the_order_of_the_places(self, tiny, files, tmp_path, monkeypatch):
        folder, cache = tmp_path / "weights", tmp_path / "keras" / "models"
        folder.mkdir()
        cache.mkdir(parents=True)
        shutil.copy(files["published"], cache / "tiny_no_top.h5")
        monkeypatch.setenv("CONVSCOPE_WEIGHTS", str(folder))
        assert weights_at_hand(tiny) == cache / "tiny_no_top.h5"
        assert find_weights(tiny, None, Progress()).origin == "Keras' cache"
        for name in ("tiny_net.weights.h5", "tiny_net_notop.weights.h5", "tiny_no_top.h5"):
            (folder / name).write_bytes(name.encode())
            assert find_weights(tiny, None, Progress()).path == folder / name
            assert weights_at_hand(tiny) == folder / name

    def test_places_that_are_not_there_are_told(self, tiny, tmp_path, monkeypatch):
        with pytest.raises(DataError, match=r"no weights at .*gone\.h5"):
            find_weights(tiny, tmp_path / "gone.h5", Progress())
        with pytest.raises(DataError, match=r"looked for tiny_no_top\.h5, tiny_net_notop"):
            find_weights(tiny, tmp_path, Progress())
        monkeypatch.setenv("CONVSCOPE_WEIGHTS", str(tmp_path / "gone"))
        assert weights_at_hand(tiny) is None
        with pytest.raises(DataError, match=r"\$CONVSCOPE_WEIGHTS is .*gone"):
            find_weights(tiny, None, Progress())

    def test_published_means_equal_bytes(self, files):
        data, own = files["published"], found(files["own"])
        for algorithm in ("md5", "sha256"):
            tiny = backbone_for(NOWHERE, digest_of(data, algorithm))
            assert is_published(tiny, found(data))
            assert not is_published(tiny, own)
        unknown = backbone_for(NOWHERE, None)
        assert not is_published(unknown, found(data))
        assert is_published(unknown, dataclasses.replace(found(data), origin="downloaded"))


class TestDownload:
    @pytest.fixture
    def server(self, files):
        server = Server(files["published"].read_bytes())
        yield server
        server.close()

    @pytest.mark.parametrize("algorithm", ["md5", "sha256", None])
    def test_goes_into_keras_cache_once(self, files, server, tmp_path, algorithm):
        digest = digest_of(files["published"], algorithm) if algorithm else None
        tiny = backbone_for(server.url, digest)
        listener = Listener()
        result = find_weights(tiny, None, listener)
        assert result.path == tmp_path / "keras" / "models" / "tiny_no_top.h5"
        assert result.origin == "downloaded"
        assert result.path.read_bytes() == server.data
        assert is_published(tiny, result)
        assert listener.tasks == ["Downloading tiny_no_top.h5"]
        assert [path.name for path in result.path.parent.iterdir()] == ["tiny_no_top.h5"]
        assert find_weights(tiny, None, listener).origin == "Keras' cache"
        assert server.n_requests == 1

    def test_plain_keras_finds_it_there(self, files, server, tmp_path):
        tiny = backbone_for(server.url, digest_of(files["published"]))
        result = find_weights(tiny, None, Progress())
        theirs = keras.utils.get_file(
            tiny.weights.name,
            NOWHERE,
            cache_dir=tmp_path / "keras",
            cache_subdir="models",
            file_hash=tiny.weights.digest.removeprefix("md5:"),
        )
        assert Path(theirs) == result.path

    def test_a_spoilt_file_in_the_cache_is_fetched_again(self, files, server, tmp_path):
        tiny = backbone_for(server.url, digest_of(files["published"]))
        cached = tmp_path / "keras" / "models" / "tiny_no_top.h5"
        cached.parent.mkdir(parents=True)
        cached.write_bytes(server.data[:1000])
        listener = Listener()
        assert find_weights(tiny, None, listener).origin == "downloaded"
        assert cached.read_bytes() == server.data
        assert "downloading it again" in listener.lines[0]

    @pytest.mark.parametrize("known", [True, False])
    def test_the_wrong_file_is_not_kept(self, files, server, tmp_path, monkeypatch, known):
        _no_waiting(monkeypatch)
        server.data = b"<html>please log in</html>"
        tiny = backbone_for(server.url, digest_of(files["published"]) if known else None)
        with pytest.raises(IntegrityError, match=r"tiny_no_top\.h5.*--weights") as error:
            find_weights(tiny, None, Progress())
        assert "\n" not in str(error.value)
        assert not (tmp_path / "keras").exists()

    def test_a_transfer_that_breaks_off_leaves_nothing_in_keras_cache(
        self, files, server, tmp_path, monkeypatch
    ):
        _no_waiting(monkeypatch)
        tiny = backbone_for(server.url, None)
        server.n_broken = 4
        with pytest.raises(DownloadError, match="broke off"):
            find_weights(tiny, None, Progress())
        assert not (tmp_path / "keras").exists()
        assert find_weights(tiny, None, Progress()).path.read_bytes() == server.data

    def test_offline_says_what_to_put_where(self, tiny, files, tmp_path, monkeypatch):
        folder = tmp_path / "weights"
        folder.mkdir()
        shutil.copy(files["own"], folder / "vgg16_notop.weights.h5")
        monkeypatch.setenv("CONVSCOPE_WEIGHTS", str(folder))
        with pytest.raises(DownloadError) as error:
            find_weights(tiny, None, Progress())
        text = str(error.value)
        assert "\n" not in text
        for part in (
            "tiny_net",
            f"tiny_no_top.h5 from {NOWHERE}",
            str(tmp_path / "keras" / "models"),
            "$CONVSCOPE_WEIGHTS",
            "--weights",
            "available here: ",
            "connection refused",
        ):
            assert part in text
        assert "vgg16" in text.partition("available here: ")[2]


class Server:
    """A web server on this machine with one file; some of its transfers break off half-way."""

    def __init__(self, data: bytes) -> None:
        self.data, self.n_requests, self.n_broken = data, 0, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.n_requests += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.data)))
                self.end_headers()
                broken = outer.n_requests <= outer.n_broken
                self.wfile.write(outer.data[: len(outer.data) // 2] if broken else outer.data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/tiny_no_top.h5"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _no_waiting(monkeypatch) -> None:
    """pooch waits seconds between attempts."""
    import pooch.core

    class Clock:
        sleep = staticmethod(lambda seconds: None)

    monkeypatch.setattr(pooch.core, "time", Clock)


@pytest.fixture(scope="module")
def efficientnet_file(tmp_path_factory) -> Path:
    keras.utils.set_random_seed(1)
    source = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=SHAPE)
    rng = np.random.default_rng(0)
    for layer in source.layers:
        if isinstance(layer, keras.layers.Normalization):
            mean, variance = [0.485, 0.456, 0.406], [0.0524, 0.0502, 0.0506]
            layer.set_weights([np.array(mean), np.array(variance), np.array(0)])
        elif isinstance(layer, keras.layers.BatchNormalization):
            # Small enough that the signal of the image does not fade in the depth.
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma, beta, mean, rng.uniform(0.2, 0.6, gamma.shape)])
    path = tmp_path_factory.mktemp("efficientnet") / "efficientnetb0_notop.h5"
    save_legacy(source, path)
    return path


@pytest.fixture(scope="module")
def efficientnets(efficientnet_file) -> list[keras.Model]:
    """The network with the weights of the file, and what it is before the step behind that."""
    backbone = BACKBONES.get("efficientnet_b0")
    ours, plain = backbone.build(SHAPE), backbone.build(SHAPE)
    load_weights(ours, backbone, found(efficientnet_file))
    load_weights(plain, dataclasses.replace(backbone, after_loading=None), found(efficientnet_file))
    return [ours, plain]


class TestEfficientNet:
    """Keras builds the first EfficientNet otherwise when it loads ImageNet weights itself."""

    def test_gives_what_keras_own_imagenet_model_gives(
        self, efficientnet_file, efficientnets, monkeypatch
    ):
        monkeypatch.setattr(
            efficientnet.file_utils, "get_file", lambda *_, **__: str(efficientnet_file)
        )
        theirs = keras.applications.EfficientNetB0(
            weights="imagenet", include_top=False, input_shape=SHAPE
        )
        x = np.random.default_rng(2).integers(0, 256, (2, *SHAPE)).astype("float32")
        layers = ("stem_conv", "block2b_add", "block5c_add", "top_activation")
        maps = []
        for model in (theirs, *efficientnets):
            inside = keras.Model(model.input, [model.get_layer(layer).output for layer in layers])
            maps.append([keras.ops.convert_to_numpy(each) for each in inside(x)])
        for layer, expected, seen, without in zip(layers, *maps, strict=True):
            spread = expected.std()
            # Rounding grows on its way through 200 layers.
            assert np.abs(seen - expected).max() < 2e-3 * spread, layer
            # Without that step the answer is another one, so this test can fail.
            assert np.abs(without - expected).max() > 0.2 * spread, layer

    def test_only_the_first_convolution_differs_from_the_file(
        self, efficientnet_file, efficientnets
    ):
        ours, plain = efficientnets
        plain.load_weights(efficientnet_file)
        names = [variable.path for variable in ours.weights]
        pairs = zip(names, ours.get_weights(), plain.get_weights(), strict=True)
        assert [name for name, a, b in pairs if not np.array_equal(a, b)] == ["stem_conv/kernel"]


@pytest.mark.weights
@pytest.mark.skipif(REAL is None, reason="$CONVSCOPE_WEIGHTS is not set")
@pytest.mark.parametrize("name", ["mobilenet_v2", "vgg16", "resnet50"])
def test_real_weights_load_whole_and_see_something(name, monkeypatch):
    monkeypatch.setenv("CONVSCOPE_WEIGHTS", REAL)
    backbone = BACKBONES.get(name)
    trunk = backbone.build((64, 64, 3))
    trunk.set_weights([np.full_like(weight, 7) for weight in trunk.get_weights()])
    result = find_weights(backbone, None, Progress())
    assert result.origin == "$CONVSCOPE_WEIGHTS"
    assert weights_at_hand(backbone) == result.path
    load_weights(trunk, backbone, result)
    for weight, variable in zip(trunk.get_weights(), trunk.weights, strict=True):
        assert not (weight == 7).any(), variable.path
    x = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype("float32")
    features = keras.ops.convert_to_numpy(trunk(x))
    assert features.shape == (2, 2, 2, backbone.n_features)
    assert np.isfinite(features).all()
    assert (features > 0).any()
    # Plain Keras loads the same from the same file.
    builders = {"mobilenet_v2": "MobileNetV2", "vgg16": "VGG16", "resnet50": "ResNet50"}
    theirs = getattr(keras.applications, builders[name])(
        weights=str(result.path), include_top=False, input_shape=(64, 64, 3)
    )
    assert same(theirs.get_weights(), trunk.get_weights())

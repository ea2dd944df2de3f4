"""The code of the tutorial: as a learner writes it with Keras alone, and with convscope.

The plain pieces build on each other in the order of the sections, so that a notebook of all of them
runs. They follow the tutorial's steps in today's Keras.
"""

import json

from convscope.studies.tutorial.facts import DataFacts

_KERAS_DATA = ("cifar10", "cifar100", "mnist", "fashion_mnist")

_FROM_KERAS = """\
import keras
import numpy as np
from sklearn.model_selection import train_test_split

keras.utils.set_random_seed(83)
(x_train, y_train), (x_test, y_test) = keras.datasets.{name}.load_data()
x_train, x_test = x_train / 255.0, x_test / 255.0{channel}
y_train, y_test = y_train.ravel(), y_test.ravel()
x_train, x_val, y_train, y_val = train_test_split(
    x_train, y_train, test_size=0.2, random_state=83
)
n_classes = int(y_train.max()) + 1
print(x_train.shape, x_val.shape, x_test.shape)"""

_DIGITS = """\
import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

keras.utils.set_random_seed(83)
digits = load_digits()
images = digits.images[..., None] / 16.0
x_train, x_test, y_train, y_test = train_test_split(
    images, digits.target, test_size=0.2, random_state=83
)
x_train, x_val, y_train, y_val = train_test_split(
    x_train, y_train, test_size=0.2, random_state=83
)
n_classes = int(y_train.max()) + 1
print(x_train.shape, x_val.shape, x_test.shape)"""

_FOLDER = """\
import keras
import numpy as np
from sklearn.model_selection import train_test_split

keras.utils.set_random_seed(83)
photos = keras.utils.image_dataset_from_directory(
    "photos/", image_size=({height}, {width}), color_mode="{mode}", batch_size=None
)
images, labels = map(np.array, zip(*photos.as_numpy_iterator()))
x_train, x_test, y_train, y_test = train_test_split(
    images / 255.0, labels, test_size=0.2, random_state=83
)
x_train, x_val, y_train, y_val = train_test_split(
    x_train, y_train, test_size=0.2, random_state=83
)
n_classes = int(y_train.max()) + 1
print(x_train.shape, x_val.shape, x_test.shape)"""

CONVOLUTION = """\
image = x_train[0].mean(axis=-1)
kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
print("one step:", (image[2:5, 2:5] * kernel).sum())

for padding in ("valid", "same"):
    for stride in (1, 2):
        layer = keras.layers.Conv2D(1, 3, strides=stride, padding=padding)
        found = layer(image[None, :, :, None])
        print(padding, "stride", stride, image.shape, "->", found.shape[1:3])
print("pooling:", keras.layers.MaxPooling2D(2)(image[None, :, :, None]).shape[1:3])"""

CONVOLUTION_OURS = """\
import convscope

sheet = convscope.describe("cnn-functional")
for layer in sheet.geometry:
    print(layer.name, layer.output_shape, layer.formula)"""

_NETWORKS = {
    "cnn-sequential": """\
from keras import layers


def sequential(shape, n_classes):
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(n_classes, activation="softmax"),
        ]
    )


model = sequential(x_train.shape[1:], n_classes)""",
    "cnn-functional": """\
from keras import layers


def functional(shape, n_classes):
    image = keras.Input(shape)
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(image)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    probs = layers.Dense(n_classes, activation="softmax")(x)
    return keras.Model(image, probs)


model = functional(x_train.shape[1:], n_classes)""",
    "cnn-subclassing": """\
from keras import layers


class SmallCNN(keras.Model):
    def __init__(self, n_classes):
        super().__init__()
        self.conv1 = layers.Conv2D(32, 3, padding="same", activation="relu")
        self.pool1 = layers.MaxPooling2D(2)
        self.conv2 = layers.Conv2D(64, 3, padding="same", activation="relu")
        self.pool2 = layers.MaxPooling2D(2)
        self.conv3 = layers.Conv2D(64, 3, padding="same", activation="relu")
        self.flatten = layers.Flatten()
        self.dense = layers.Dense(128, activation="relu")
        self.probs = layers.Dense(n_classes, activation="softmax")

    def call(self, x):
        x = self.pool1(self.conv1(x))
        x = self.pool2(self.conv2(x))
        x = self.flatten(self.conv3(x))
        return self.probs(self.dense(x))


model = SmallCNN(n_classes)
model.build((None, *x_train.shape[1:]))""",
}

_FIT = """
model.summary()
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(
    x_train, y_train, batch_size=128, epochs={epochs}, validation_data=(x_val, y_val), verbose=2
)
print("loss, accuracy:", model.evaluate(x_test, y_test, verbose=0))"""

_TRAIN = """\
run = convscope.train(
    "{style}", data={data}, recipe="tutorial", epochs={epochs}, seed=83
)
test = run.metrics["test"]
print(test["accuracy"], test["accuracy_interval_95"], test["loss"])"""

_COMPARE = """\
found = convscope.compare(
    ["cnn-sequential", "cnn-functional", "cnn-subclassing"],
    data={data}, recipes=["tutorial"], seeds={seeds}, epochs={epochs}, final=True,
)
print(found.conclusion)
for pair in found.pairs:
    print(pair.verdict)"""

COMPARE_PLAIN = """\
accuracies = []
for build in (sequential, functional, lambda shape, n: SmallCNN(n)):
    keras.utils.set_random_seed(83)
    model = build(x_train.shape[1:], n_classes)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, batch_size=128, epochs={epochs}, verbose=0)
    accuracies.append(model.evaluate(x_test, y_test, verbose=0)[1])
print(accuracies)"""

_COLOUR = """\
def as_colour(images, size):
    images = keras.ops.image.resize(images, (size, size))
    return np.repeat(np.asarray(images), 3 // images.shape[-1], axis=-1)


def pretrained(name, size):
    build = getattr(keras.applications, name)
    try:
        backbone = build(include_top=False, weights="imagenet", input_shape=(size, size, 3))
    except Exception as error:  # no network: this shows the way, not the accuracy
        print(error)
        backbone = build(include_top=False, weights=None, input_shape=(size, size, 3))
    backbone.trainable = False
    return backbone


"""

_TRANSFER = """\
model = keras.Sequential(
    [
        pretrained("{name}", 32),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dense(64, activation="relu"),
        layers.Dense(n_classes, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(as_colour(x_train, 32), y_train, batch_size=128, epochs={epochs}, verbose=2)
print("loss, accuracy:", model.evaluate(as_colour(x_test, 32), y_test, verbose=0))"""

_DONE_RIGHT = """

# The same backbone with its own scaling, larger images, and the mean of its last map.
scaled = keras.applications.{module}.preprocess_input
model = keras.Sequential(
    [
        layers.Resizing({size}, {size}),
        pretrained("{name}", {size}),
        layers.GlobalAveragePooling2D(),
        layers.Dense(n_classes, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(
    scaled(255 * as_colour(x_train, 32)), y_train, batch_size=128, epochs={epochs}, verbose=2
)
print("loss, accuracy:", model.evaluate(scaled(255 * as_colour(x_test, 32)), y_test, verbose=0))"""

_LADDER = """\
climb = convscope.ladder(
    "{backbone}", data={data}, sizes={sizes}{until}
)
for rung in climb.rungs:
    print(rung.name, rung.val_accuracy, rung.gain)
print(climb.conclusion)"""

_USUAL = ("MobileNetV2", "mobilenet_v2")

_KERAS_NAMES = {
    "vgg16": ("VGG16", "vgg16"),
    "mobilenet_v2": _USUAL,
    "resnet50_v2": ("ResNet50V2", "resnet_v2"),
    "efficientnet_lite0": _USUAL,  # Keras has no EfficientNet-Lite
}
"""Function that builds a backbone, and its module in `keras.applications`."""


def loading(data: DataFacts) -> str:
    """Return plain code that loads and divides the images."""
    height, width, channels = data.image_shape
    if data.registered and data.name == "digits":
        return _DIGITS
    if data.registered and data.name in _KERAS_DATA:
        channel = ""
        if channels == 1:
            channel = "\nx_train, x_test = x_train[..., None], x_test[..., None]"
        return _FROM_KERAS.format(name=data.name, channel=channel)
    mode = "grayscale" if channels == 1 else "rgb"
    return _FOLDER.format(height=height, width=width, mode=mode)


def loading_ours(data: DataFacts) -> str:
    """Return the same with convscope."""
    return "\n".join(
        [
            "import convscope",
            "",
            f"dataset = convscope.load({_named(data)})",
            "print(len(dataset.train), len(dataset.val), len(dataset.test))",
            "print(dataset.image_shape, dataset.class_names)",
        ]
    )


def network(style: str, epochs: int) -> str:
    """Return plain code that builds a style, trains and evaluates it."""
    return _NETWORKS[style] + _FIT.format(epochs=epochs)


def network_ours(style: str, data: DataFacts, epochs: int) -> str:
    """Return the same with convscope."""
    return _TRAIN.format(style=style, data=_named(data), epochs=epochs)


def comparing(epochs: int) -> str:
    """Return plain code that trains the three styles from the same seed."""
    return COMPARE_PLAIN.format(epochs=epochs)


def comparing_ours(data: DataFacts, epochs: int, n_seeds: int) -> str:
    """Return the same with convscope."""
    return _COMPARE.format(data=_named(data), epochs=epochs, seeds=n_seeds)


def transfer(backbone: str, size: int, epochs: int, *, first: bool) -> str:
    """Return plain code that trains a head on a frozen backbone, as the tutorial did and better.

    Args:
        backbone: Registered backbone.
        size: Side in pixels of the larger images.
        epochs: Number of epochs.
        first: Whether the functions that it uses are still to be defined.
    """
    name, module = _KERAS_NAMES.get(backbone, _USUAL)
    text = _TRANSFER.format(name=name, epochs=epochs)
    text += _DONE_RIGHT.format(name=name, module=module, size=size, epochs=epochs)
    return _COLOUR + text if first else text


def transfer_ours(backbone: str, data: DataFacts, sizes: tuple[int, ...], until: str | None) -> str:
    """Return code that climbs the ladder of a backbone with convscope."""
    said = "" if until is None else f', until="{until}"'
    return _LADDER.format(backbone=backbone, data=_named(data), sizes=list(sizes), until=said)


def _named(data: DataFacts) -> str:
    # JSON writes strings as Python does, always between double quotes.
    said = [json.dumps(str(word), ensure_ascii=False) for word in data.options[1::2]]
    return said[0] + "".join(f", labels={table}" for table in said[1:])

"""A server without sockets and without a network: the application is called directly."""

import asyncio
import io

import httpx
import numpy as np
from PIL import Image

from convscope.classifier.classify import Classifier
from convscope.classifier.shares import Shares
from convscope.classifier.spec import ClassifierSpec
from convscope.serving.application import build_app
from convscope.serving.limits import Limits
from convscope.serving.metrics import Metrics
from convscope.serving.models import Models, Settings, Source

SIZE = 4
N_CLASSES = 256


class GreyValues:
    """A network whose most probable class is the grey value of an image's first pixel.

    Attributes:
        batches: Numbers of images that it was called with.
        fails_at: Grey value at which it fails.
    """

    def __init__(self):
        self.batches = []
        self.fails_at = None
        self.wait = lambda: None

    def predict_on_batch(self, images):
        self.batches.append(len(images))
        self.wait()
        values = images[:, 0, 0, 0]
        if self.fails_at in values:
            raise ValueError("the engine fails at /secret/path")
        probs = np.full((len(images), N_CLASSES), 0.5 / (N_CLASSES - 1), np.float32)
        probs[np.arange(len(images)), values] = 0.5
        return probs


class Exported(GreyValues):
    """The same with further outputs: logits are the logarithm; features, the corner."""

    names = ("probs", "logits", "features")

    def outputs(self, images, names):
        probs = self.predict_on_batch(images)
        corner = images[:, :2, :2].astype(np.float32)
        found = {"probs": probs, "logits": np.log(probs), "features": corner}
        return {name: found[name] for name in names}


def png(value, size=SIZE):
    file = io.BytesIO()
    Image.new("L", (size, size), value).save(file, "PNG")
    return file.getvalue()


class Server:
    """Server of a `GreyValues`, called in one event loop."""

    def __init__(self, limits=None, **options):
        door = {
            key: options.pop(key)
            for key in ("api_key", "hosts", "origins", "on_load")
            if key in options
        }
        self.network = options.pop("network", None) or GreyValues()
        prefix = options.pop("prefix", "grey ")
        names = tuple(f"{prefix}{value}" for value in range(N_CLASSES))
        below, above = options.pop("reject_below", 0.0), options.pop("reject_above", 0.0)
        thresholds = options.pop("thresholds", ())
        self.spec = ClassifierSpec(
            *(names, SIZE, SIZE, 1),
            reject_below=below,
            reject_above=above,
            val_shares=options.pop("val_shares", Shares()),
            fit=options.pop("fit", "squash"),
            multi_label=bool(thresholds),
            thresholds=thresholds,
        )
        self.settings = Settings(limits=limits or Limits(), **options)
        metrics = Metrics()
        self.models = Models(
            [Source("grey", None, Classifier(self.network, self.spec))], self.settings, metrics
        )
        self.models.load_all()
        self.network.batches.clear()
        self.app = build_app(self.models, self.settings.limits, metrics, **door)

    def client(self):
        transport = httpx.ASGITransport(self.app)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost")

    def ask(self, method, path, **options):
        """Return the answer to one request."""

        async def once():
            async with self.client() as client:
                return await client.request(method, path, **options)

        return asyncio.run(once())

    def predict(self, content=None, **options):
        return self.ask("POST", "/predict", content=content, **options)

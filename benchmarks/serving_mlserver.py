"""An exported model in MLServer, for `serving_peers.py --mlserver`, with the same decoder.

It runs in an environment with mlserver, onnxruntime and pillow, without convscope.
"""

import base64
import io
import json

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from PIL import Image


class Model(MLModel):
    """Probabilities of image files in base64."""

    async def load(self):
        """Load the model."""
        self.session = onnxruntime.InferenceSession(
            self.settings.parameters.uri, providers=["CPUExecutionProvider"]
        )
        facts = self.session.get_modelmeta().custom_metadata_map
        self.spec = json.loads(facts["convscope.spec"])
        return True

    async def predict(self, payload):
        """Return the probabilities of a batch."""
        pixels = np.stack([self.pixels(each) for each in payload.inputs[0].data])
        probs = self.session.run(["probs"], {"pixels": pixels})[0]
        output = NumpyCodec.encode_output("probs", probs)
        return InferenceResponse(model_name=self.name, outputs=[output])

    def pixels(self, text):
        """Return the pixels of an image, of the model's size."""
        image = Image.open(io.BytesIO(base64.b64decode(text)))
        image = image.convert("L" if self.spec["channels"] == 1 else "RGB")
        size = (self.spec["width"], self.spec["height"])
        pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        return pixels.reshape(size[1], size[0], -1)

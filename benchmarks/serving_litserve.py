"""An exported model in LitServe, for `serving_peers.py --litserve`, with the same decoder.

It runs in an environment with litserve, onnxruntime and pillow, without convscope.
"""

import base64
import io
import json
import sys

import litserve
import numpy as np
import onnxruntime
from PIL import Image


class Model(litserve.LitAPI):
    """Probabilities of an image file in base64."""

    def setup(self, device):
        """Load the model."""
        self.session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
        facts = self.session.get_modelmeta().custom_metadata_map
        self.spec = json.loads(facts["convscope.spec"])

    def decode_request(self, request):
        """Return the pixels of an image, of the model's size."""
        image = Image.open(io.BytesIO(base64.b64decode(request["image"])))
        image = image.convert("L" if self.spec["channels"] == 1 else "RGB")
        size = (self.spec["width"], self.spec["height"])
        pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        return pixels.reshape(size[1], size[0], -1)

    def predict(self, x):
        """Return the probabilities of a batch."""
        return self.session.run(["probs"], {"pixels": np.asarray(x)})[0]

    def encode_response(self, output):
        """Return an answer."""
        return {"probs": output.tolist()}


if __name__ == "__main__":
    model = Model(max_batch_size=32, batch_timeout=0.0)
    server = litserve.LitServer(model, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), log_level="error", generate_client_file=False
    )

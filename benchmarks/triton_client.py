"""A foreign client, `tritonclient[http]`, against `convscope serve`.

    pip install 'tritonclient[http]' pillow    # in an environment of its own
    convscope serve cats.onnx
    python benchmarks/triton_client.py localhost:8000 cats photo.png ...

It calls what the protocol has, and fails if one answer is not what the protocol says. Pixels as
JSON, pixels as binary, and image files have to give the same probabilities; `--expected probs.json`
(a list of rows, such as a trained run's) is compared with them, too.
"""

import argparse
import io
import json
from pathlib import Path

import numpy as np
import tritonclient.http as http
from PIL import Image
from tritonclient.utils import InferenceServerException

TOLERANCE = 1e-4


def ask(client, model, datatype, array, *, binary):
    tensor = http.InferInput("pixels", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    output = http.InferRequestedOutput("probs", binary_data=binary)
    said = client.infer(model, [tensor], outputs=[output], request_id="4711")
    assert said.get_response()["id"] == "4711"
    return said.as_numpy("probs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("address")
    parser.add_argument("model")
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--expected", type=Path)
    given = parser.parse_args()
    client = http.InferenceServerClient(given.address, network_timeout=60, connection_timeout=60)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(given.model)
    assert client.is_model_ready(given.model, "1")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    facts = client.get_model_metadata(given.model)
    assert facts["inputs"][0]["datatype"] == "UINT8"
    (index,) = [x for x in client.get_model_repository_index() if x["name"] == given.model]
    assert index["state"] == "READY"
    client.load_model(given.model)

    files = [path.read_bytes() for path in given.photos]
    encoded = np.array(files, dtype=object)
    probs = ask(client, given.model, "BYTES", encoded, binary=True)
    assert probs.shape == (len(files), len(facts["parameters"]["class_names"]))
    # Pixels of the model's own size are not resized on either side.
    size = (facts["parameters"]["width"], facts["parameters"]["height"])
    mode = "L" if facts["inputs"][0]["shape"][3] == 1 else "RGB"
    small = [
        np.asarray(Image.open(io.BytesIO(file)).convert(mode).resize(size, Image.BILINEAR))
        for file in files
    ]
    pixels = np.stack(small).reshape(len(files), size[1], size[0], -1)
    for binary in (True, False):
        found = ask(client, given.model, "UINT8", pixels, binary=binary)
        difference = float(abs(found - probs).max())
        print(f"pixels, {'binary' if binary else 'JSON'}: differ from files by {difference:.1e}")
        assert difference < TOLERANCE
    if given.expected:
        wanted = np.array(json.loads(given.expected.read_text()))
        difference = float(abs(wanted - probs).max())
        print(f"expected: differ by {difference:.1e}")
        assert difference < TOLERANCE

    tensor = http.InferInput("pixels", [len(files)], "BYTES")
    tensor.set_data_from_numpy(encoded)
    best = http.InferRequestedOutput("probs", class_count=1)
    label = client.infer(given.model, [tensor], outputs=[best]).as_numpy("probs")[0, 0]
    whole = client.infer(given.model, [tensor])
    listed = [each["name"] for each in facts["outputs"]]
    assert [each["name"] for each in whole.get_response()["outputs"]] == listed
    names = whole.as_numpy("class_name")
    assert label.split(b":")[2] == names[0]
    for compression in ("gzip", "deflate"):
        client.infer(given.model, [tensor], request_compression_algorithm=compression)
    for name, call in {
        "an unknown model": lambda: client.infer("unknown", [tensor]),
        "no image": lambda: ask(
            client, given.model, "BYTES", np.array([b"no image"], dtype=object), binary=True
        ),
        "FP32": lambda: ask(client, given.model, "FP32", pixels.astype("f4"), binary=True),
    }.items():
        try:
            call()
        except InferenceServerException as error:
            print(f"{name}: {error.status()} {error.message()}")
        else:
            raise AssertionError(f"{name} was answered")
    print("all calls were answered as the protocol says")


if __name__ == "__main__":
    main()

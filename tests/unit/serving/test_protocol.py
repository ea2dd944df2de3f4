"""The Open Inference Protocol, field by field."""

import base64
import json
import struct
import tracemalloc

import numpy as np
import pytest
from serving_server import Exported, Server, png

from convscope.errors import RunError
from convscope.serving.tensors import rounded

LENGTH = "inference-header-content-length"


def pixels(*values, size=4):
    return np.repeat(np.array(values, np.uint8), size * size).reshape(-1, size, size, 1)


def tensor(array, **more):
    entry = {"name": "pixels", "shape": list(array.shape), "datatype": "UINT8"}
    return {**entry, "data": array.tolist(), **more}


def encoded(*images):
    texts = [base64.b64encode(each).decode() for each in images]
    return {"name": "pixels", "shape": [len(images)], "datatype": "BYTES", "data": texts}


def infer(server, content, path="/v2/models/grey/infer", **options):
    return server.ask("POST", path, json=content, **options)


def binary(content, *tails, length=None):
    head = json.dumps(content).encode()
    headers = {LENGTH: str(len(head) if length is None else length)}
    return {"content": head + b"".join(tails), "headers": headers}


def test_server_and_models_describe_themselves(server):
    said = server.ask("GET", "/v2").json()
    assert said["name"] == "convscope"
    assert "binary_tensor_data" in said["extensions"]
    for path in ("/v2/models/grey", "/v2/models/grey/versions/1"):
        said = server.ask("GET", path).json()
        assert (said["name"], said["versions"]) == ("grey", ["1"])
        assert said["inputs"] == [{"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, -1, 1]}]
        assert said["outputs"][0] == {"name": "probs", "datatype": "FP32", "shape": [-1, 256]}
    for path in ("/v2/models/grey/ready", "/v2/models/grey/versions/1/ready"):
        assert server.ask("GET", path).json() == {"name": "grey", "ready": True}
    for path in ("/v2/models/none", "/v2/models/grey/versions/9", "/v2/models/none/ready"):
        said = server.ask("GET", path)
        assert said.status_code == 404
        assert said.json().keys() == {"error"}
    assert server.ask("GET", "/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize(
    "given",
    [
        tensor(pixels(7, 8)),
        tensor(pixels(7, 8), data=pixels(7, 8).ravel().tolist()),
        tensor(pixels(7, 8), data=pixels(7, 8).astype(float).tolist()),
        tensor(pixels(7, 8, size=9)),
        encoded(png(7), png(8, size=9)),
        {**encoded(png(7), png(8)), "shape": [2, 1]},
    ],
)
def test_pixels_and_image_files_are_classified(server, given):
    for path in ("/v2/models/grey/infer", "/v2/models/grey/versions/1/infer"):
        said = infer(server, {"id": "4711", "inputs": [given]}, path).json()
        assert (said["id"], said["model_name"], said["model_version"]) == ("4711", "grey", "1")
        probs, names = said["outputs"]
        assert (probs["name"], probs["datatype"], probs["shape"]) == ("probs", "FP32", [2, 256])
        found = np.array(probs["data"]).reshape(2, 256)
        assert found.argmax(axis=1).tolist() == [7, 8]
        assert found.sum(axis=1) == pytest.approx(1)
        assert names == {
            **{"name": "class_name", "datatype": "BYTES", "shape": [2]},
            "data": ["grey 7", "grey 8"],
        }
    assert "id" not in infer(server, {"inputs": [given]}).json()


def test_only_the_outputs_that_are_asked_for_come_in_that_order(server):
    asked = {"inputs": [tensor(pixels(3))], "outputs": [{"name": "class_name"}]}
    assert [each["name"] for each in infer(server, asked).json()["outputs"]] == ["class_name"]
    asked["outputs"] = [
        {"name": "class_name"},
        {"name": "probs", "parameters": {"classification": 2}},
    ]
    names, best = infer(server, asked).json()["outputs"]
    assert names["data"] == ["grey 3"]
    assert (best["datatype"], best["shape"]) == ("BYTES", [1, 2])
    assert best["data"] == ["0.500000:3:grey 3", "0.001961:0:grey 0"]


def test_outputs_of_the_metadata_come_by_default_and_others_by_name():
    server = Server(network=Exported(), max_batch=2)
    listed = server.ask("GET", "/v2/models/grey").json()["outputs"]
    assert [each["name"] for each in listed] == ["probs", "class_name", "logits", "features"]
    assert listed[2] == {"name": "logits", "datatype": "FP32", "shape": [-1, 256]}
    assert listed[3]["shape"] == [-1, 2, 2, 1]
    content = {"inputs": [tensor(pixels(7, 8, 9))]}
    by_default = infer(server, content).json()["outputs"]
    for found, known in zip(by_default, listed, strict=True):
        assert (found["name"], found["datatype"]) == (known["name"], known["datatype"])
        assert found["shape"] == [3, *known["shape"][1:]]
    assert infer(server, {**content, "outputs": []}).json()["outputs"] == by_default
    content["outputs"] = [{"name": name} for name in ("features", "logits", "class_name", "probs")]
    features, logits, names, probs = infer(server, content).json()["outputs"]
    assert features["shape"] == [3, 2, 2, 1]
    assert features["data"] == [7.0] * 4 + [8.0] * 4 + [9.0] * 4
    assert logits["shape"] == probs["shape"] == [3, 256]
    assert logits["data"] == pytest.approx(np.log(probs["data"]).tolist(), abs=1e-6)
    assert [probs, names, logits, features] == by_default
    assert names["data"] == ["grey 7", "grey 8", "grey 9"]
    # In batches of at most two, as all others, and counted.
    assert max(server.network.batches) == 2
    assert server.ask("GET", "/shares").json()["images"] == 9
    content["outputs"] = [{"name": "logit"}]
    said = infer(server, content)
    assert said.status_code == 400
    assert said.json() == {
        "error": "the model has no output 'logit'; it has probs, class_name, logits, features"
    }
    server.network.fails_at = 9
    content["outputs"] = [{"name": "logits"}]
    assert infer(server, content).status_code == 500


class Strange(Exported):
    """Its distance is the grey value."""

    names = ("probs", "distance")

    def outputs(self, images, names):
        distance = images[:, 0, 0, 0].astype(np.float32)
        found = {"probs": self.predict_on_batch(images), "distance": distance}
        return {name: found[name] for name in names}


@pytest.mark.parametrize("outputs", [[], [{"name": "class_name"}]], ids=["all", "one"])
@pytest.mark.parametrize(
    ("reject", "thresholds", "expected"),
    [
        (True, (), ["grey 3", "none of these"]),
        (False, (), ["grey 3", "grey 200"]),
        (True, (0.4,) * 256, ['["grey 3"]', "[]"]),
        (False, (0.4,) * 256, ['["grey 3"]', '["grey 200"]']),
    ],
)
def test_a_rejected_image_has_no_class(outputs, reject, thresholds, expected):
    server = Server(network=Strange(), reject=reject, reject_above=100.0, thresholds=thresholds)
    asked = {"inputs": [tensor(pixels(3, 200))], "outputs": outputs}
    found = {each["name"]: each["data"] for each in infer(server, asked).json()["outputs"]}
    assert found["class_name"] == expected


@pytest.mark.parametrize("n_digits", [7, 9])
def test_many_values_are_rounded_as_each_alone(n_digits):
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 2**32, 20_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    odd = np.array([0, -0.0, 1, 0.5, 1e-45, 3.4e38, 0.1, 1e16, 12345678, 123456.75, 1 - 6e-8])
    halves = draw.integers(0, 2**24, 20_000) / 2**14
    probs = np.exp(-60 * draw.random(20_000))
    values = np.concatenate([bits[np.isfinite(bits)], odd, halves, probs], dtype=np.float32)
    found = rounded(values, n_digits)
    # As text: 0 is not -0.
    assert list(map(str, found)) == [str(float(f"{v:.{n_digits}g}")) for v in values.tolist()]


def test_tensors_travel_binary_both_ways(server):
    given = {"name": "pixels", "shape": [2, 4, 4, 1], "datatype": "UINT8"}
    given["parameters"] = {"binary_data_size": 32}
    content = {
        "inputs": [given],
        "outputs": [
            {"name": "class_name", "parameters": {"binary_data": True}},
            {"name": "probs", "parameters": {"binary_data": True}},
        ],
    }
    said = server.ask("POST", "/v2/models/grey/infer", **binary(content, pixels(5, 6).tobytes()))
    assert said.headers["content-type"] == "application/octet-stream"
    length = int(said.headers[LENGTH])
    head, tail = json.loads(said.content[:length]), said.content[length:]
    sizes = [each["parameters"]["binary_data_size"] for each in head["outputs"]]
    assert sizes == [2 * (4 + 6), 2 * 256 * 4]
    assert tail[: sizes[0]] == b"\6\0\0\0grey 5\6\0\0\0grey 6"
    probs = np.frombuffer(tail[sizes[0] :], "<f4").reshape(2, 256)
    assert probs.argmax(axis=1).tolist() == [5, 6]
    assert not any("data" in each for each in head["outputs"])


def test_image_files_travel_binary_and_one_alone_without_json(server):
    files = [png(5), png(6, size=30)]
    tail = b"".join(struct.pack("<I", len(each)) + each for each in files)
    given = {"name": "pixels", "shape": [2], "datatype": "BYTES"}
    given["parameters"] = {"binary_data_size": len(tail)}
    content = {"inputs": [given], "outputs": [{"name": "class_name"}]}
    said = server.ask("POST", "/v2/models/grey/infer", **binary(content, tail)).json()
    assert said["outputs"][0]["data"] == ["grey 5", "grey 6"]
    content["parameters"] = {"binary_data_output": True}
    said = server.ask("POST", "/v2/models/grey/infer", **binary(content, tail))
    assert said.content.endswith(b"\6\0\0\0grey 5\6\0\0\0grey 6")
    alone = server.ask("POST", "/v2/models/grey/infer", content=png(9), headers={LENGTH: "0"})
    assert b"grey 9" in alone.content


BAD = {
    "no inputs": ({}, '"inputs"'),
    "inputs of another kind": ({"inputs": [3]}, '"inputs"'),
    "an unknown input": ({"inputs": [{"name": "x"}]}, "'pixels', not 'x'"),
    "two inputs": ({"inputs": [tensor(pixels(1))] * 2}, "one input"),
    "an unknown output": (
        {"inputs": [tensor(pixels(1))], "outputs": [{"name": "logits"}]},
        "no output 'logits'",
    ),
    "floats": ({"inputs": [tensor(pixels(1), datatype="FP32")]}, "not FP32"),
    "BF16": ({"inputs": [tensor(pixels(1), datatype="BF16")]}, "not a datatype"),
    "no datatype": ({"inputs": [{"name": "pixels", "shape": [1], "data": []}]}, "UINT8"),
    "no data": ({"inputs": [{"name": "pixels", "shape": [1], "datatype": "BYTES"}]}, "no data"),
    "a negative shape": ({"inputs": [tensor(pixels(1), shape=[-1, 4, 4, 1])]}, "shape"),
    "a shape that overflows": (
        {"inputs": [tensor(pixels(1), shape=[1, 2**62, 2**62, 1])]},
        "16 values",
    ),
    "a shape of many": ({"inputs": [tensor(pixels(1), shape=[1] * 1000)]}, "shape"),
    "a shape of text": ({"inputs": [tensor(pixels(1), shape="4")]}, "shape"),
    "three channels": ({"inputs": [tensor(pixels(1), shape=[1, 4, 4, 3])]}, "height, width, 1]"),
    "too few values": ({"inputs": [tensor(pixels(1), data=[1])]}, "1 values"),
    "ragged data": ({"inputs": [tensor(pixels(1), data=[[1], [1, 2]])]}, "no tensor"),
    "deep data": ({"inputs": [tensor(pixels(1), data=json.loads("[" * 80 + "]" * 80))]}, "tensor"),
    "lists among numbers": ({"inputs": [tensor(pixels(1), data=[1, [1]] * 8)]}, "no tensor"),
    "numbers 9 lists deep": (
        {"inputs": [tensor(pixels(1), data=json.loads("[" * 9 + "1" + "]" * 9))]},
        "at most 8 deep",
    ),
    "texts": ({"inputs": [tensor(pixels(1), data=["1"] * 16)]}, "whole numbers"),
    "truths": ({"inputs": [tensor(pixels(1), data=[True] * 16)]}, "whole numbers"),
    "nulls": ({"inputs": [tensor(pixels(1), data=[None] * 16)]}, "whole numbers"),
    "a huge value among floats": (
        {"inputs": [tensor(pixels(1), data=[1.0, 10**400] * 8)]},
        "whole numbers",
    ),
    "too large values": ({"inputs": [tensor(pixels(1), data=[256] * 16)]}, "0..255"),
    "huge values": ({"inputs": [tensor(pixels(1), data=[10**30] * 16)]}, "whole numbers"),
    "scaled values": ({"inputs": [tensor(pixels(1), data=[0.5] * 16)]}, "whole numbers"),
    "nothing": ({"inputs": [tensor(pixels(1), data={})]}, "whole numbers"),
    "a damaged file": ({"inputs": [encoded(png(1), b"x")]}, "element 1 of 'pixels'"),
    "no base64": ({"inputs": [{**encoded(png(1)), "data": ["ä"]}]}, "base64"),
    "an output twice": (
        {"inputs": [tensor(pixels(1))], "outputs": [{"name": "probs"}] * 9},
        "'probs' is asked for twice",
    ),
    "another number of files": ({"inputs": [{**encoded(png(1)), "shape": [2]}]}, "shape says 2"),
    "files of many dimensions": (
        {"inputs": [{**encoded(png(1)), "shape": [1, 1, 1]}]},
        "shape [N]",
    ),
    "parameters of another kind": ({"inputs": [tensor(pixels(1), parameters=[1])]}, "parameters"),
    "a size beyond the body": (
        {"inputs": [tensor(pixels(1), parameters={"binary_data_size": 99})]},
        "binary_data_size",
    ),
    "a size that is no number": (
        {"inputs": [tensor(pixels(1), parameters={"binary_data_size": "9"})]},
        "binary_data_size",
    ),
    "outputs of another kind": ({"inputs": [tensor(pixels(1))], "outputs": {"a": 1}}, "outputs"),
    "classes that are no number": (
        {
            "inputs": [tensor(pixels(1))],
            "outputs": [{"name": "probs", "parameters": {"classification": "a"}}],
        },
        "classification",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_request_is_refused_with_its_reason(server, name):
    content, words = BAD[name]
    said = infer(server, content)
    assert said.status_code == 400, said.text
    assert said.json().keys() == {"error"}
    assert words in said.json()["error"]
    assert len(said.json()["error"]) < 250


def test_a_long_text_among_numbers_takes_no_more_memory_than_its_own(server):
    data = [["a" * 1_000_000, *[""] * 400]]
    tracemalloc.start()
    try:
        said = infer(server, {"inputs": [tensor(pixels(1), data=data)]})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert said.status_code == 400
    assert "whole numbers" in said.json()["error"]
    assert peak < 20_000_000


def tiny(n_images, n_bytes, shape, datatype):
    """Return a request for many images of which each is a few bytes."""
    given = {"name": "pixels", "shape": [n_images, *shape], "datatype": datatype}
    given["parameters"] = {"binary_data_size": n_images * n_bytes}
    return binary({"inputs": [given]}, bytes(n_images * n_bytes))


N_TINY = 100_000


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/v2/models/grey/infer", tiny(N_TINY, 1, [1, 1, 1], "UINT8")),
        ("/v2/models/grey/infer", tiny(N_TINY, 4, [], "BYTES")),
        ("/v2/models/grey/infer", {"json": {"inputs": [encoded(*[b""] * N_TINY)]}}),
        ("/predict", {"json": {"images": [""] * N_TINY}}),
    ],
)
def test_more_images_than_the_queue_has_places_take_no_memory(server, path, options):
    server.ask("POST", path, **options)  # imports and caches of the first request
    tracemalloc.start()
    try:
        said = server.ask("POST", path, **options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert said.status_code == 413
    assert said.json() == {"error": "100000 images in one request; the server takes at most 512"}
    assert peak < 5_000_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (binary({"inputs": []}, length=999), "within the body"),
        (binary({"inputs": []}, length="-1"), "within the body"),
        (binary({"inputs": []}, length="9" * 5000), "within the body"),
        (binary({"inputs": []}, length="0" * 20 + "1" * 5000), "within the body"),
        (binary({"inputs": []}, length=""), "within the body"),
        (binary({"inputs": [tensor(pixels(1))]}, b"more"), "4 bytes more"),
        ({"content": b"", "headers": {LENGTH: "0"}}, "empty"),
        (
            binary(
                {
                    "inputs": [
                        {
                            **{"name": "pixels", "shape": [1], "datatype": "BYTES"},
                            "parameters": {"binary_data_size": 8},
                        }
                    ]
                },
                b"\xff\xff\xff\xff1234",
            ),
            "longer than its data",
        ),
        (
            binary(
                {
                    "inputs": [
                        {
                            **{"name": "pixels", "shape": [2], "datatype": "BYTES"},
                            "parameters": {"binary_data_size": 400},
                        }
                    ]
                },
                bytes(400),
            ),
            "more elements, but its shape says 2",
        ),
    ],
)
def test_wrong_lengths_are_refused(server, options, words):
    said = server.ask("POST", "/v2/models/grey/infer", **options)
    assert said.status_code == 400
    assert words in said.json()["error"]


def test_models_are_listed_and_loaded_again_but_not_taken_away(server):
    index = [{"name": "grey", "version": "1", "state": "READY", "reason": ""}]
    assert server.ask("POST", "/v2/repository/index").json() == index
    assert server.ask("POST", "/v2/repository/models/grey/load").status_code == 200
    assert server.ask("POST", "/v2/repository/models/none/load").status_code == 404
    assert server.ask("POST", "/v2/repository/models/grey/unload").status_code == 404


def test_only_a_model_that_was_loaded_again_is_told():
    told = []
    server = Server(on_load=lambda: told.append("loaded"))
    assert server.ask("POST", "/v2/repository/models/none/load").status_code == 404
    server.models.load = lambda name: (_ for _ in ()).throw(RunError("x.onnx is damaged"))
    assert server.ask("POST", "/v2/repository/models/grey/load").status_code == 400
    assert told == []
    del server.models.load
    assert server.ask("POST", "/v2/repository/models/grey/load").status_code == 200
    assert told == ["loaded"]


def test_a_model_that_is_not_loaded_yet_is_not_ready():
    server = Server()
    server.models._loaded.clear()
    assert server.ask("GET", "/v2/models/grey/ready").json() == {"name": "grey", "ready": False}
    assert server.ask("GET", "/v2/health/ready").status_code == 503
    assert server.ask("GET", "/v2/health/live").status_code == 200
    assert server.predict(png(1)).status_code == 503
    assert server.ask("POST", "/v2/repository/index").json()[0]["state"] == "UNAVAILABLE"


def test_a_server_that_is_about_to_end_is_live_but_not_ready():
    server = Server()
    server.models.draining = True
    assert server.ask("GET", "/v2/health/ready").status_code == 503
    assert server.ask("GET", "/healthz").status_code == 503
    assert server.ask("GET", "/v2/health/live").status_code == 200
    assert server.predict(png(1)).status_code == 200

"""Many images on many workers: order, window, and what is done for those that are lost."""

from pathlib import Path

import numpy as np
import pytest

from convscope.classifier.bulk.pool import LostError, predict_in_pool
from convscope.classifier.bulk.worker import Answered
from convscope.classifier.spec import ClassifierSpec
from convscope.errors import DataError, FailureError
from convscope.progress import Progress
from convscope.types import ImagePrediction, PackedImage, UnreadableImage

SPEC = ClassifierSpec(("even", "odd"), 6, 6, 1)


def number_of(image) -> int:
    return int(getattr(image, "path", image).stem)


class Pool:
    """Workers that know whether a file's number is odd; each fifth image is damaged."""

    def __init__(self, *, deadly=(), unseen=()) -> None:
        self.deadly, self.unseen = set(deadly), unseen
        self.chunks: list[list[int]] = []
        self.most = self.on_their_way = 0
        self.dropped: int | None = None

    def window(self) -> int:
        return 3

    def send(self, images):
        self.chunks.append([number_of(image) for image in images])
        self.on_their_way += 1
        self.most = max(self.most, self.on_their_way)
        return self.chunks[-1]

    def receive(self, sent) -> Answered:
        self.on_their_way -= 1
        if self.deadly & set(sent):
            raise LostError("a worker was killed 4 times")
        damaged = {at: f"{n}.png is damaged" for at, n in enumerate(sent) if n % 5 == 3}
        probs = [(1 - n % 2, n % 2) for n in sent if n % 5 != 3]
        unseen = tuple(at for at, n in enumerate(sent) if n in self.unseen)
        probs = np.array(probs, np.float32).reshape(-1, 2)
        return Answered(probs, np.zeros(len(probs), np.bool_), damaged, unseen, "node7")

    def close(self, sent) -> None:
        self.dropped = len(sent)


def predict(pool, files, batch_size=4):
    return predict_in_pool(
        files, None, pool=pool, spec=SPEC, batch_size=batch_size, progress=Progress()
    )


def paths(n):
    return [Path(f"{index}.png") for index in range(n)]


def test_each_image_has_one_answer_in_its_place():
    pool = Pool()
    found = list(predict(pool, paths(30)))
    assert [result.path for result in found] == paths(30)
    for result in found:
        if number_of(result) % 5 == 3:
            assert result == UnreadableImage(result.path, f"{result.path} is damaged")
        else:
            assert isinstance(result, ImagePrediction)
            assert result.class_name == ("even", "odd")[number_of(result) % 2]
    assert [len(chunk) for chunk in pool.chunks] == [4] * 7 + [2]
    assert pool.dropped == 0


def test_only_a_window_is_read_and_sent_until_answers_are_taken():
    pool, taken = Pool(), []
    files = (taken.append(path) or path for path in paths(1000))
    found = predict(pool, files)
    for _ in range(8):
        next(found)
    assert len(taken) == 16
    assert pool.most == 3
    found.close()
    assert pool.dropped == 3


def test_large_files_of_archives_make_small_chunks(monkeypatch):
    monkeypatch.setattr("convscope.classifier.bulk.pool._MOST_BYTES", 100)
    pool = Pool()
    sizes = [60, 60, 10, 10, 500, 1]
    files = [PackedImage(Path(f"{n}.png"), bytes(size)) for n, size in enumerate(sizes)]
    assert [number_of(result) for result in predict(pool, files)] == list(range(6))
    assert pool.chunks == [[0, 1], [2, 3, 4], [5]]


def test_an_image_that_no_worker_survives_is_listed_and_its_neighbours_are_answered():
    found = list(predict(Pool(deadly=[6]), paths(12)))
    assert [result.path for result in found] == paths(12)
    unreadable = {number_of(each): each for each in found if isinstance(each, UnreadableImage)}
    assert unreadable.keys() == {3, 6, 8}
    assert unreadable[6].reason == (
        "6.png cannot be read: a worker was killed 4 times, each time with this image"
    )


def test_where_no_image_survives_it_is_not_the_fault_of_the_images():
    pool = Pool(deadly=range(4, 8))
    found = predict(pool, paths(12))
    assert [number_of(next(found)) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(FailureError, match=r"killed 4 times, with 4\.png and each of the 3 images"):
        next(found)
    assert pool.dropped == 2


@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_where_none_of_the_first_images_survives_it_ends_at_once(batch_size):
    pool = Pool(deadly=range(1000))
    with pytest.raises(FailureError, match=r"the first 3 images .*a script .*`if __name__ == "):
        list(predict(pool, paths(1000), batch_size))
    assert len(pool.chunks) <= 8
    with pytest.raises(FailureError, match=r"0\.png and each .*a script "):
        list(predict(pool, paths(2), 4))


@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_two_images_at_first_may_be_lost(batch_size):
    found = list(predict(Pool(deadly=[0, 1, 4, 6, 7]), paths(9), batch_size))
    lost = [number_of(each) for each in found if "worker was killed" in getattr(each, "reason", "")]
    assert lost == [0, 1, 4, 6, 7]


def test_a_node_without_the_files_is_named_and_a_missing_file_is_listed(tmp_path):
    file = tmp_path / "3.png"
    found = list(predict(Pool(unseen=[3]), [file]))
    assert found == [UnreadableImage(file, "3.png is damaged")]
    file.write_bytes(b"")
    with pytest.raises(DataError, match=rf"^node node7 does not see {file}; choose a place"):
        list(predict(Pool(unseen=[3]), [file]))

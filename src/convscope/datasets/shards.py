"""Images in shards, of which only some need to be on this machine at a time."""

from convscope.datasets import DATASETS, DataRequest
from convscope.datasets.sharded.store import ShardImages, Store
from convscope.errors import DataError
from convscope.types import Dataset, SealedSplit, Split, Stacked
from convscope.wording import counted, spell_size


@DATASETS.register("shards", recipe="logistic", place="PLACE")
def load_shards(request: DataRequest) -> Dataset:
    """A set that `convscope data shards` wrote, in a folder or at an address such as s3://....

    Names and labels are read at once, pixels shard by shard: those at an address are fetched when
    they are needed, and kept in convscope's own cache while there is room. The images have the size
    at which they were written; models resize by themselves.

    In training the images of a few shards are shuffled among each other, and the shards anew in
    each epoch: a function of seed and epoch alone, so a stopped run resumes bit for bit.

    Args:
        request: Request whose `path` is the folder, or `address` the address.

    Raises:
        DataError: If there is no such set, or its index makes no sense.
        IntegrityError: If a file is not the one of the index.
        StorageError: If the address cannot be reached, or there is no room for a shard.
    """
    place = request.address or request.path
    if place is None:
        raise DataError("the dataset 'shards' needs its place: --data FOLDER or --data s3://...")
    store = Store(place)
    index = store.index
    parts = {}
    for name, entry in index.parts.items():
        rows = store.rows(name)
        images = Stacked([ShardImages(store, shard) for shard in entry.shards], index.near)
        parts[name] = Split(images, rows.labels, rows.ids, rows.files, rows.groups)
        # Else all pixels would be read for them before the first step.
        parts[name].__dict__["hashes"] = rows.hashes.tolist()
    height, width, channels = index.image_shape
    n_shards = sum(len(entry.shards) for entry in index.parts.values())
    colour = "grey" if channels == 1 else "RGB"
    test = parts.get("test")
    return Dataset(
        name=index.name,
        class_names=tuple(index.class_names),
        train=parts["train"],
        val=parts.get("val"),
        test=None if test is None else SealedSplit(test),
        provenance={**index.provenance, "fingerprint": f"sha256:{store.sha256}"},
        notes=(
            f"images are {spell_size((height, width))}, {colour}, in {counted(n_shards, 'shard')}",
        ),
        white=index.white,
    )

"""The table in docs/layouts.md: folders as people have them, and what convscope makes of each.

The table is what this test found, so it cannot say anything else. After a change of what is found:

    python tests/docs/test_layouts.py
"""

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from convscope.datasets.folder import ignored
from convscope.datasets.folders.contents import read_contents
from convscope.errors import DataError

PAGE = Path(__file__).parents[2] / "docs" / "layouts.md"

HEAD = """\
# Supported folder layouts

Each folder (`*` stands for images), an example of such data, and what convscope makes of it; a \
test builds it and writes this table. A folder that can be read in two ways is refused, with a \
question. Tables name the three images of their folder, or of the one below.

| the folder holds | example | convscope |
|---|---|---|
"""


@dataclass(frozen=True)
class Case:
    """A folder that people have.

    Attributes:
        met_in: Where.
        tree: Files, relative to the folder; "{a,b}" stands for each of them, "*" for three images,
            and what ends in "/" is an empty folder.
        classes: What has to come out; () if the folder is refused.
        parts: Images in train, val and test; -1 for a part that is not given.
        refusal: Words of the refusal.
        labels: Value of `--labels`.
    """

    met_in: str
    tree: str
    classes: str = ""
    parts: tuple[int, int, int] = (-1, -1, -1)
    refusal: str = ""
    labels: str = ""


TABLES = {
    "metadata.csv": "file_name,label\n0.jpg,cat\n1.jpg,dog\n2.jpg,dog\n",
    "metadata.jsonl": "".join(
        f'{{"file_name": "photos/{n}.jpg", "label": {n % 2}}}\n' for n in range(3)
    ),
    "train.csv": "id,breed\n0,cat\n1,dog\n2,dog\n",
    "HAM10000.csv": "image,MEL,NV\n0,1.0,0.0\n1,0.0,1.0\n2,0.0,1.0\n",
    "_classes.csv": "filename, cat, dog\n0.jpg, 1, 0\n1.jpg, 0, 1\n2.jpg, 0, 1\n",
    "labels.csv": "image_id,label,split\n0,10,train\n1,9,train\n2,9,test\n",
}
"""Contents of the tables in the trees, by name."""


CASES = [
    Case("Keras' flower photos", "{daisy,rose}/*", "daisy rose", (6, -1, -1)),
    Case("imagenette, YOLO", "{train,val}/{cat,dog}/*", "cat dog", (6, 6, -1)),
    Case("Roboflow exports", "{train,valid,test}/{cat,dog}/* README.txt", "cat dog", (6, 6, 6)),
    Case("brain tumour MRI (Kaggle)", "{Training,Testing}/{glioma,meningioma,pituitary}/*",
         "glioma meningioma pituitary", (9, -1, 9)),
    Case("Intel scenes (Kaggle)",
         "seg_train/seg_train/{forest,sea}/* seg_test/seg_test/{forest,sea}/* seg_pred/seg_pred/*",
         "forest sea", (6, -1, 6)),
    Case("cats and dogs (SuperDataScience)", "{training_set,test_set}/{cats,dogs}/*",
         "cats dogs", (6, -1, 6)),
    Case("ASL alphabet (Kaggle)",
         "asl_alphabet_train/asl_alphabet_train/{A,B,C}/* asl_alphabet_test/asl_alphabet_test/*",
         "A B C", (9, -1, -1)),
    Case("chest X-rays (Kaggle)",
         "chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/* __MACOSX/chest_xray/._train",
         "NORMAL PNEUMONIA", (6, 6, 6)),
    Case("Kaggle's competitions: test images without labels", "train/{cat,dog}/* test/*",
         "cat dog", (6, -1, -1)),
    Case("the same for Keras' generator", "train/{cat,dog}/* test/unknown/*",
         "cat dog", (6, -1, -1)),
    Case("prefixes", "flowers_{train,test}/{daisy,rose}/*", "daisy rose", (6, -1, 6)),
    Case("Tiny ImageNet", "train/{n01443537,n01629819}/images/* val/{n01443537,n01629819}/*",
         "n01443537 n01629819", (6, 6, -1)),
    Case("UC Merced", "UCMerced_LandUse/Images/{agricultural,beach}/* UCMerced_LandUse/readme.txt",
         "agricultural beach", (6, -1, -1)),
    Case("Caltech 101", "101_ObjectCategories/{ant,bass}/* Annotations/{ant,bass}/a.mat",
         "ant bass", (6, -1, -1)),
    Case("images in folders of each day", "{cat,dog}/2024-05-01/* cat/2024-05-02/* dog/x/*",
         "cat dog", (12, -1, -1)),
    Case("of all vehicles", "{bus,train}/*", "bus train", (6, -1, -1)),
    Case("the same, in folders of each day", "{bus,car}/* train/{2024-05-01,2024-05-02}/*",
         refusal="is 'train' a class like them, or does it hold the classes?"),
    Case("Synology and Windows shares",
         "{cat,dog}/* @eaDir/cat/* $RECYCLE.BIN/* #recycle/* dog/@eaDir/* lost+found/ .thumbs/*",
         "cat dog", (6, -1, -1)),
    Case("a Mac and a PC", "{café,NFD:café,tea}/*", refusal="in two spellings of Unicode"),
    Case("case matters here, not there", "{Tea,tea,coffee}/*", "Tea coffee tea", (9, -1, -1)),
    Case("domains (Office-31)", "{amazon,dslr,webcam}/{bike,mug}/*",
         refusal="which are the classes?"),
    Case("parts inside the classes", "{cat,dog}/{train,test}/*", refusal="which are the classes?"),
    Case("sites with parts of their own", "{lyon,oslo}/{train,test}/{cat,dog}/*",
         refusal="each is a set of its own, name one"),
    Case("a set beside other pictures", "dataset/{train,test}/{cat,dog}/* assets/logo.jpg",
         refusal="is it the data set?"),
    Case("parts without classes", "{Train,Test,sample}/*", refusal="no class folders"),
    Case("parts behind the classes", "{covid,normal}_{train,test}/*",
         refusal="which are the classes?"),
    Case("unpacked twice (Kaggle's flowers)", "{daisy,rose}/* flowers/{daisy,rose}/*",
         refusal="is it a copy of the whole set?"),
    Case("two names of one part", "{train,training}/{cat,dog}/*", refusal="which mean the same"),
    Case("no classes (dogs against cats)", "train/*", refusal="no class folders"),
    Case("a class that is missing in test", "train/{cat,dog,owl}/* test/{cat,dog}/*",
         "cat dog owl", (9, -1, 6)),
    Case("a class by two names", "train/{cat,dog}/* test/{cats,dog}/*",
         refusal="test lacks 'cat'; only test has 'cats'"),
    Case("Hugging Face's imagefolder", "{train,test}/{metadata.csv,*}", "cat dog", (3, -1, 3)),
    Case("a table and no class folders (Kaggle)", "train/* train.csv",
         refusal="train.csv has labels of 3 images: --labels"),
    Case("the same, named", "train/* train.csv", "cat dog", (3, -1, -1), labels="train.csv"),
    Case("a column for each class (ISIC)", "images/* HAM10000.csv", "MEL NV", (3, -1, -1),
         labels="HAM10000.csv"),
    Case("Roboflow's multi-class exports", "{train,valid}/{_classes.csv,*}", "cat dog", (3, 3, -1),
         labels="_classes.csv"),
    Case("a column of parts, numbers as classes", "labels.csv *", "9 10", (2, -1, 1),
         labels="labels.csv"),
]  # fmt: skip

VARIANTS = [
    Case("Keras' flower photos, the archive unpacked",
         "flower_photos/{daisy,rose}/* flower_photos/LICENSE.txt", "daisy rose", (6, -1, -1)),
    Case("cats and dogs from Kaggle",
         "training_set/training_set/{cats,dogs}/* test_set/test_set/{cats,dogs}/*",
         "cats dogs", (6, -1, 6)),
    Case("half renamed", "{train,testing}/{cats,dogs}/*", "cats dogs", (6, -1, 6)),
    Case("a test folder still to be filled", "train/{cat,dog}/* test/", "cat dog", (6, -1, -1)),
    Case("CamelCase", "{TrainSet,ValidationSet,TestSet}/{cat,dog}/*", "cat dog", (6, 6, 6)),
    Case("PetImages (Microsoft)", "PetImages/{Cat,Dog}/* PetImages/Cat/Thumbs.db readme.docx",
         "Cat Dog", (6, -1, -1)),
    Case("trained in the folder by an older convscope", "{cat,dog,zebra}/* runs/first/{RUN,*}",
         "cat dog zebra", (9, -1, -1)),
    Case("unpacked on a Mac", "train/{café,tea}/* val/{NFD:café,tea}/*", "café tea", (6, 6, -1)),
    Case("parts before the classes", "{train,test}_cat/* {train,test}_dog/*",
         refusal="'cat' and 'dog' are, put the parts above them: train/cat, train/dog, test/cat"),
    Case("a kind of train among vehicles", "{bus,freight_train,test_car}/*",
         "bus freight_train test_car", (9, -1, -1)),
    Case("a class called test", "{bus,car,test}/x/*  ",
         refusal="is 'test' a class like them, or does it hold the classes?"),
    Case("a folder beside train", "train/{cat,dog}/* raw/* docs/a.txt", "cat dog", (6, -1, -1)),
    Case("folders beside parts", "{train,val}/{cat,dog}/* {raw,masks}/*", "cat dog", (6, 6, -1)),
    Case("parts by other names", "{first,second}/{glioma,pituitary}/*",
         refusal="which are the classes?"),
    Case("Hugging Face's imagefolder with one table", "photos/* metadata.jsonl", "0 1",
         (3, -1, -1)),
]  # fmt: skip
"""Cases that differ from those of the page in names only, or nearly."""


def build(root: Path, tree: str) -> None:
    """Make the files of a tree; its images hold nothing, since only names count here."""
    for place in tree.split():
        for path in expand(place):
            if path.endswith("/"):
                (root / path).mkdir(parents=True)
                continue
            names = ["0.jpg", "1.jpg", "2.jpg"] if path.endswith("*") else [Path(path).name]
            for name in names:
                file = (root / path).parent / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(TABLES.get(name, ""))
                if name == "RUN":
                    file.rename(file.with_name("run.json")).write_text('{"format": 1}')


def expand(place: str) -> list[str]:
    """Return the paths that a pattern with braces stands for."""
    before, brace, rest = place.partition("{")
    if not brace:
        return [place]
    inside, _, after = rest.partition("}")
    return [path for word in inside.split(",") for path in expand(before + spelled(word) + after)]


def spelled(word: str) -> str:
    return unicodedata.normalize("NFD", word[4:]) if word.startswith("NFD:") else word


def found_in(root: Path, labels: str = "") -> tuple[tuple[str, ...], tuple[int, int, int], str]:
    """Return the classes, the images of train, val and test, and what is said of a folder."""
    try:
        layout = read_contents(root, labels or None)
    except DataError as error:
        return (), (-1, -1, -1), str(error)
    if layout.problems:
        return (), (-1, -1, -1), layout.problems[0].message
    counts = [
        sum(map(len, layout.parts[part].values())) if part in layout.parts else -1
        for part in ("train", "val", "test")
    ]
    return layout.class_names, (counts[0], counts[1], counts[2]), "; ".join(ignored(layout))


def row(case: Case) -> str:
    """Return a case's row of the table: what was found, not what was expected."""
    with TemporaryDirectory() as folder:
        root = Path(folder) / "photos"
        build(root, case.tree)
        classes, counts, said = found_in(root, case.labels)
        said = said.replace(f"{root.parent}{os.sep}", "")
    if classes:
        parts = zip(("train", "val", "test"), counts, strict=True)
        had = ", ".join(part for part, count in parts if count >= 0)
        outcome = f"{len(classes)} classes ({', '.join(classes)}); {had} given"
        outcome += f"; {said}" if said else ""
    else:
        outcome = f"refused: {said}"
    tree = case.tree.replace("NFD:", "").replace("RUN,*", "run.json,*")
    option = f" and `--labels {case.labels}`" if case.labels else ""
    return f"| `{tree}`{option} | {case.met_in} | {outcome} |\n"


@pytest.mark.parametrize("case", CASES + VARIANTS, ids=lambda case: case.met_in)
def test_each_layout_is_understood_or_refused(case: Case, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    build(root, case.tree)
    classes, counts, said = found_in(root, case.labels)
    assert classes == tuple(case.classes.split())
    assert counts == case.parts
    assert case.refusal in said
    assert "\n" not in said


def test_the_page_says_what_was_found() -> None:
    assert PAGE.read_text(encoding="utf-8") == HEAD + "".join(map(row, CASES))


if __name__ == "__main__":
    PAGE.write_text(HEAD + "".join(map(row, CASES)), encoding="utf-8")

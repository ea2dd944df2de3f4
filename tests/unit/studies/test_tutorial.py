"""The page of the tutorial, from results that are made up: nothing is trained here."""

import ast
import dataclasses
import html.parser
import re
from pathlib import Path
from string import Formatter

import numpy as np
import pytest
from scipy.signal import correlate2d

from convscope.errors import DownloadError, UnknownNameError
from convscope.models.geometry import LayerGeometry
from convscope.models.sheet import ModelSheet
from convscope.progress import Progress
from convscope.report.page import write_page
from convscope.studies.comparison.comparison import Arm, Comparison, Trial, pairs_of
from convscope.studies.ladder.rungs import Ladder, Rung
from convscope.studies.tutorial import words
from convscope.studies.tutorial.arithmetic import convolve, output_size, windows
from convscope.studies.tutorial.backbones import Backbones
from convscope.studies.tutorial.facts import DataFacts, Facts, Step, StyleRun
from convscope.studies.tutorial.page import tutorial_page
from convscope.studies.tutorial.plan import (
    QUICK,
    STYLES,
    WHOLE,
    Plan,
    seconds_of_ladder,
    seconds_of_style,
)
from convscope.studies.tutorial.sections.transfer import largest_step
from convscope.studies.tutorial.words import Words, languages, read_catalogue, words_in

SOURCE = Path(words.__file__).parent
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def sentences() -> set[str]:
    """Return the English sentences that are to be translated, from the code."""
    found = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_":
                (sentence,) = node.args
                assert isinstance(sentence, ast.Constant), f"{file.name}: {node.lineno}"
                found.add(sentence.value)
    return found


def ladder(name: str, accuracies: dict[str, float]) -> Ladder:
    before, rungs = None, []
    for number, (rung, accuracy) in enumerate(accuracies.items(), 1):
        size = int(rung.split()[0]) if rung.endswith(" px") else 32
        gain = None if before is None else accuracy - before
        rungs.append(
            Rung(number, rung, "", rung, size, f"rungs/{number}", accuracy, gain, accuracy - 0.004)
        )
        before = accuracy
    return Ladder(Path("runs/tutorial/ladders") / name, name, 10_000, tuple(rungs))


def run(style: str, seed: int, accuracy: float, epochs: int = 20) -> StyleRun:
    history = [
        {
            **{"epoch": float(epoch), "loss": 1.6 / epoch, "accuracy": 1 - 0.55 / epoch},
            **{"val_loss": 1.2 + 0.02 * abs(epoch - 7), "seconds": 8.0},
            "val_accuracy": 0.73 - 0.002 * abs(epoch - 7) - 0.2 * (epoch == 1),
        }
        for epoch in range(1, epochs + 1)
    ]
    judged = {
        "accuracy": accuracy,
        "accuracy_interval_95": [accuracy - 0.009, accuracy + 0.009],
        "loss": 1.518,
    }
    return StyleRun(style, seed, f"runs/{style}-seed{seed}", history, {"test": judged})


def comparison(*, twins: bool = True) -> Comparison:
    rng = np.random.default_rng(0)
    right = rng.random(10_000) < 0.7137
    answers = [(style, {83: right}) for style in STYLES]
    if not twins:
        answers[-1] = (STYLES[-1], {83: rng.random(10_000) < 0.75})
    arms = tuple(
        Arm(
            style,
            style,
            "tutorial",
            tuple(Trial("", seed, 0.7, float(row.mean())) for seed, row in right.items()),
        )
        for style, right in answers
    )
    return Comparison(Path("runs/tutorial/comparison"), "cifar10", 10_000, arms, pairs_of(answers))


def sheet() -> ModelSheet:
    def layer(name, kind, before, after, params, formula="", kernel=None):
        return LayerGeometry(
            name, kind, before, after, kernel, None, None, formula, (3, 3), (1, 1), params, 1000
        )

    conv = "floor((32 + 2*1 - 3)/1) + 1 = 32"
    layers = [
        layer("conv1", "Conv2D", (32, 32, 3), (32, 32, 32), 896, conv, (3, 3)),
        layer("pool1", "MaxPooling2D", (32, 32, 32), (16, 16, 32), 0, "floor((32 - 2)/2) + 1 = 16"),
        layer("dense", "Dense", (4096,), (128,), 524_416),
    ]
    return ModelSheet([], layers, [], {}, (32, 32, 3), 582_026, 582_026, 39_000_000)


@pytest.fixture(scope="module")
def whole() -> Facts:
    rng = np.random.default_rng(1)
    runs = [run(style, 83, 0.7137) for style in STYLES]
    runs += [run("cnn-functional", 84 + k, a) for k, a in enumerate((0.7023, 0.7141, 0.71, 0.7114))]
    return Facts(
        words=words_in("en"),
        plan=WHOLE,
        data=DataFacts(
            name="cifar10",
            registered=True,
            options=("--data", "cifar10"),
            class_names=CLASSES,
            n_images={"train": 40_000, "val": 10_000, "test": 10_000},
            n_whole=60_000,
            samples=rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8),
            sample_names=[CLASSES[k % 10] for k in range(20)],
        ),
        sheet=sheet(),
        architecture="<svg xmlns='http://www.w3.org/2000/svg'/>",
        runs=runs,
        comparison=comparison(),
        ladders={
            "vgg16": ladder(
                "vgg16", {"as the tutorial": 0.33, "own scaling": 0.6494, "64 px": 0.77}
            ),
            "mobilenet_v2": ladder(
                "mobilenet_v2",
                {
                    **{"as the tutorial": 0.3549, "own scaling": 0.3018, "64 px": 0.6854},
                    **{"96 px": 0.797, "160 px": 0.8531, "standardised features": 0.8512},
                    **{"better head": 0.8882, "last stage fine-tuned": 0.9402},
                },
            ),
            "resnet50": ladder(
                "resnet50", {"as the tutorial": 0.4034, "own scaling": 0.63, "64 px": 0.79}
            ),
        },
        sizes={
            "vgg16": (14_789_258, 74_570),
            "mobilenet_v2": (2_430_858, 172_874),
            "resnet50_v2": (23_835_978, 271_178),
        },
        missing={"resnet50_v2": "the ImageNet weights of resnet50_v2 are not on this machine"},
        inside="inside/sample.html",
        explorer="inside/sample-explorer.html",
        steps=(Step("cnn-functional", 180.0, 83, 171.0), Step("", 20.0), Step("VGG16", 1_000.0)),
        folder="runs/tutorial-cifar10",
        again="convscope tutorial --data cifar10 --out runs/tutorial-cifar10",
        versions="Python 3.11",
    )


@pytest.fixture(autouse=True)
def quick_pictures(request, monkeypatch):
    """Draw no pictures, unless a test is about them: most of the time would go there."""
    if "pictures" not in request.fixturenames:
        from matplotlib.figure import Figure

        monkeypatch.setattr(Figure, "savefig", lambda self, file, **how: file.write(b"<svg/>"))


@pytest.fixture
def pictures():
    """Let the pictures be drawn."""


class _Texts(html.parser.HTMLParser):
    """Texts of a page that a reader sees or hears, without code and commands."""

    def __init__(self) -> None:
        super().__init__()
        self.silent: list[str] = []
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag in ("style", "pre"):
            self.silent.append(tag)
        self.found += [v for k, v in attrs if k in ("alt", "aria-label") and v]

    def handle_endtag(self, tag):
        if self.silent and tag == self.silent[-1]:
            self.silent.pop()

    def handle_data(self, data):
        if not self.silent and data.strip():
            self.found.append(data.strip())


def texts(facts: Facts, folder: Path) -> list[str]:
    write_page(tutorial_page(facts), folder / "tutorial.html")
    reader = _Texts()
    reader.feed((folder / "tutorial.html").read_text(encoding="utf-8"))
    return reader.found


def test_each_language_has_every_sentence_and_no_other():
    assert languages() == ["en", "ko"]
    for language in set(languages()) - {"en"}:
        text = (SOURCE / "languages" / f"{language}.po").read_text(encoding="utf-8")
        catalogue = read_catalogue(text)
        assert catalogue.keys() == sentences()
        assert text.count("\nmsgid ") == len(catalogue) + 1, "one is empty, fuzzy or given twice"


def test_a_translation_has_the_places_of_its_sentence():
    def places(text: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(text) if name is not None}

    for english, korean in words_in("ko")._catalogue.items():
        assert places(english) == places(korean), english
        assert re.search("[가-힣]", korean), english


def test_every_word_of_the_page_comes_from_the_catalogue(whole, tmp_path):
    # A language in which each sentence stands in brackets.
    marked = Words("xx", {each: f"⟦{each}⟧" for each in sentences()})
    other = dataclasses.replace(
        whole, comparison=comparison(twins=False), plan=QUICK, failures={"vgg16": "?"}
    )
    for facts in (whole, other):
        for text in texts(dataclasses.replace(facts, words=marked), tmp_path):
            rest = text
            while (shorter := re.sub("⟦[^⟦⟧]*⟧", "", rest)) != rest:
                rest = shorter
            names = {"convscope", *STYLES, *CLASSES, "cifar10", "Sequential", "Functional", "API"}
            names |= {"Subclassing", "VGG16", "MobileNetV2", "ResNet50V2", "ResNet50", "N_out"}
            names |= {"conv1", "Conv2D", "pool1", "MaxPooling2D", "dense", "Dense", "floor"}
            names |= set(whole.missing["resnet50_v2"].split()) | {"Python"}
            left = [w for w in re.findall(r"[^\W\d_][\w-]{2,}", rest) if w not in names]
            assert left == [], f"not translated: {text}"


def test_the_page_says_what_came_out_beside_the_tutorials_figures(whole, tmp_path):
    said = " ".join(texts(whole, tmp_path))
    page = (tmp_path / "tutorial.html").read_text(encoding="utf-8")
    assert "Three styles, one network: 71.4% on test images." in said
    assert "MobileNetV2 goes from 35.1% to 93.6%, once it is used as it was trained." in said
    # The tutorial's own figures.
    for figure in ("0.7020", "0.7008", "0.7104", "60.4%", "34.7%", "0.3629", "582,026"):
        assert figure in said
    assert "Sequential and Functional API are correct on the very same test images" in said
    assert "The largest step is “larger images”: +55.1 points" in said
    assert "VGG16: 32.6% as in the tutorial, 76.6% at best, mostly by “own scaling”." in said
    # Mean and standard deviation of five seeds.
    assert "0.7103 ± 0.0048" in said
    # A backbone without weights has its parameters and a way to get them.
    assert "23,835,978" in said
    assert "The ImageNet weights of ResNet50V2 are not on this machine" in said
    assert "In its place ResNet50 climbs the ladder" in said
    assert f"{whole.again} --weights FOLDER" in page


def test_the_largest_step_has_what_a_failed_rung_changed(whole):
    climbed = ladder("vgg16", {"as the tutorial": 0.35, "own scaling": 0.4, "64 px": 0.65})
    start, scaling, larger = climbed.rungs
    failed = dataclasses.replace(scaling, val_accuracy=None, gain=None, failure="lost")
    larger = dataclasses.replace(larger, gain=0.3)
    climbed = dataclasses.replace(climbed, rungs=(start, failed, larger))
    assert largest_step(whole, climbed) == ("own scaling + larger images", 0.3)


def test_an_unshown_and_a_shown_difference_are_told_apart(whole, tmp_path):
    found = comparison(twins=False)
    said = " ".join(texts(dataclasses.replace(whole, comparison=found), tmp_path))
    assert re.search(r"Subclassing is correct on more test images than \w+.*, by \d\.\d to", said)
    assert "Three styles, one network" not in said


def test_a_lead_that_is_shown_is_not_0_points(whole, tmp_path):
    found = comparison(twins=False)
    *others, pair = found.pairs
    low = dataclasses.replace(pair.found, low=0.0003)
    found = dataclasses.replace(found, pairs=(*others, dataclasses.replace(pair, found=low)))
    said = " ".join(texts(dataclasses.replace(whole, comparison=found), tmp_path))
    assert ", by 0.03 to " in said


def test_what_is_not_trained_yet_is_said(whole, tmp_path):
    begun = dataclasses.replace(
        whole, runs=whole.runs[:1], comparison=None, ladders={}, missing={}, inside=""
    )
    said = texts(begun, tmp_path)
    assert said.count("It has not been trained yet.") == 2 + 1 + 3
    assert "The tutorial is being trained; this page shows what is there." in said


def test_the_quick_page_and_other_data_say_so(whole, tmp_path):
    few = dataclasses.replace(
        whole.data, name="digits", n_images={"train": 4_000, "val": 1_000, "test": 1_000}
    )
    quick = dataclasses.replace(whole, plan=QUICK, data=few, words=words_in("en"))
    said = " ".join(texts(quick, tmp_path))
    assert "A quick look: 6,000 of 60,000 images, 10 epochs" in said
    assert "The tutorial's own figures are of CIFAR-10, and cannot be compared with these." in said


def test_the_page_is_one_file_that_loads_and_runs_nothing(whole, tmp_path, pictures):
    texts(whole, tmp_path)
    page = (tmp_path / "tutorial.html").read_text(encoding="utf-8")
    # Samples, four operations, three curves, and the architecture, none of them empty.
    drawn = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(drawn) == 9
    assert sum(len(each) > 10_000 for each in drawn) == 8
    assert "<script" not in page
    assert set(re.findall(r'src="(\w+):', page)) == {"data"}
    targets = re.findall(r'href="([^"]+)"', page)
    assert targets == [
        *(f"#s{n}" for n in range(1, 8)),
        "./inside/sample.html",
        "./inside/sample-explorer.html",
    ]


def test_the_korean_page_is_korean(whole, tmp_path):
    korean = dataclasses.replace(whole, words=words_in("ko"))
    said = " ".join(texts(korean, tmp_path))
    assert "세 가지 작성 방식은 결국 같은 신경망입니다. 테스트 정확도 71.4%." in said
    assert '<html lang="ko">' in (tmp_path / "tutorial.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("there", "climbed"),
    [
        ({"vgg16", "mobilenet_v2", "resnet50_v2"}, ["vgg16", "mobilenet_v2", "resnet50_v2"]),
        ({"mobilenet_v2", "resnet50"}, ["mobilenet_v2", "resnet50"]),
        ({"efficientnet_lite0"}, ["efficientnet_lite0"]),
        (set(), []),
    ],
)
def test_backbones_without_weights_are_left_out_or_replaced(
    there, climbed, tmp_path, monkeypatch, whole
):
    def find_weights(backbone, given, progress):
        if backbone.name not in there:
            raise DownloadError(f"no weights of {backbone.name}")

    def climb(name, **options):
        assert options["settings"] == {"split.images": QUICK.images}
        return whole.ladders["vgg16"]

    monkeypatch.setattr("convscope.models.weights.find_weights", find_weights)
    monkeypatch.setattr("convscope.studies.ladder.study.ladder", climb)
    monkeypatch.setattr("convscope.api.models.describe", lambda name, **options: sheet())
    place = {"data": "cifar10", "data_path": None}
    backbones = Backbones(tmp_path, QUICK, place, 10, None, None, Progress())
    finished = [backbones.climb(planned)() for planned in QUICK.backbones]
    backbones.climb_at_hand()
    assert list(backbones.ladders) == climbed
    assert finished.count(True) == len(set(climbed) - {"efficientnet_lite0"})
    assert set(backbones.missing).isdisjoint(there)
    # Its parameters are shown whether it has weights or not.
    assert set(backbones.sizes) == {"vgg16", "mobilenet_v2", "resnet50_v2"}


def test_an_unknown_language_is_one_line():
    with pytest.raises(UnknownNameError, match="unknown language 'kr'; did you mean 'ko'"):
        words_in("kr")


def test_a_catalogue_is_read_as_gettext_does():
    text = (
        'msgid ""\nmsgstr "Language: xx\\n"\n\n#: a.py\nmsgid ""\n"two "\n"lines"\n'
        'msgstr "\\"zwei\\" Zeilen"\n\n#, fuzzy\nmsgid "a"\nmsgstr "b"\n\nmsgid "c"\nmsgstr ""\n'
    )
    assert read_catalogue(text) == {"two lines": '"zwei" Zeilen'}


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_convolution_is_what_networks_compute(padding, stride):
    rng = np.random.default_rng(padding)
    image, kernel = rng.random((9, 8)), rng.random((3, 3))
    # Not turned round, as in a network; SciPy calls that correlation.
    expected = correlate2d(np.pad(image, padding), kernel, mode="valid")[::stride, ::stride]
    found = convolve(image, kernel, padding=padding, stride=stride)
    np.testing.assert_allclose(found, expected)
    assert found.shape == tuple(output_size(n, 3, padding, stride) for n in (9, 8))


def test_pooling_windows_do_not_overlap():
    seen = windows(np.arange(16.0).reshape(4, 4), 2, 2)
    assert seen.max(axis=(2, 3)).tolist() == [[5, 7], [13, 15]]
    assert seen.mean(axis=(2, 3)).tolist() == [[2.5, 4.5], [10.5, 12.5]]


@pytest.mark.parametrize(("plan", "most_s"), [(QUICK, 360), (WHOLE, 7_200)])
def test_the_plans_keep_their_times_on_cifar10(plan: Plan, most_s):
    n_all = plan.images or 60_000
    n_runs = len(STYLES) + plan.n_seeds - 1
    seconds = 20 + n_runs * seconds_of_style(n_all * 2 // 3, 32, plan.epochs or 20)
    for each in plan.backbones:
        seconds += seconds_of_ladder(each.name, each.sizes, each.until, n_all)
    assert 0.5 * most_s < seconds < 0.9 * most_s

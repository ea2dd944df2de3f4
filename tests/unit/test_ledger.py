import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from convscope.ledger import Ledger
from convscope.storage import cache_dir

LOG_40_LOOKS = """
import sys
from pathlib import Path
from convscope.ledger import Ledger
print("ready", flush=True)
input()
for n in range(40):
    Ledger().add(["00" * 8, "11" * 8], by=sys.argv[1], run=Path("run"), look=None, shown=False)
"""


def images(*numbers: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest()[:16] for number in numbers]


def judge(hashes, run="runs/a", look=None, shown=False, by="train"):
    """Write a look down and return how often its images have been judged by now."""
    ledger = Ledger()
    name, _ = ledger.add(hashes, by=by, run=Path(run), look=look, shown=shown)
    # From the disk, as another command reads it.
    return Ledger().tally(name)


def test_the_second_look_at_the_same_images_says_so():
    first = judge(images(1, 2, 3))
    assert first.times == 1
    assert first.sentence == "These 3 test images are evaluated for the first time on this machine."
    second = judge(images(3, 1, 2), run="runs/b")
    assert second.times == 2
    assert second.sentence == "These 3 test images are evaluated for the 2nd time on this machine."
    assert second.so_far == "they have been evaluated 2 times"


def test_another_split_of_the_same_images_is_no_clean_slate():
    for start in (0, 1, 2):
        judge(images(*range(start, start + 10)))
    tally = judge(images(*range(2, 22)))
    # 2 to 9 were in each of the three before, 10 and 11 in one or two, 12 to 21 in none.
    assert (tally.times, tally.fewest, tally.n_once) == (4, 1, 10)
    assert tally.sentence == (
        "Some of these 20 test images are evaluated for the 4th time on this machine; 10 for the "
        "first."
    )
    assert tally.so_far == "they have been evaluated up to 4 times"


def test_other_images_are_judged_for_the_first_time():
    judge(images(1, 2, 3))
    assert judge(images(4, 5, 6)).times == 1


def test_an_image_that_is_in_other_data_too_does_not_decide():
    for _ in range(5):
        judge(images(0, *range(1000, 1200)))
    tally = judge(images(*range(200)))
    assert (tally.times, tally.n_once) == (1, 199)


def test_calls_of_one_look_count_as_one():
    folds = [judge(images(*range(start, start + 5)), look="folds") for start in (0, 3, 6)]
    assert [tally.times for tally in folds] == [1, 1, 1]
    assert judge(images(*range(5)), look="another").times == 2
    firsts = [
        Ledger().add(images(1), by="compare", run=cache_dir(), look="study", shown=False)[1]
        for _ in range(3)
    ]
    assert firsts == [True, False, False]


def test_what_is_shown_is_written_down_and_judges_nothing():
    judge(images(1, 2))
    assert judge(images(1, 2), shown=True, by="gallery").times == 1
    assert [(look["by"], look["kind"]) for look in Ledger().looks] == [
        ("train", "judged"),
        ("gallery", "shown"),
    ]


def test_two_processes_that_log_looks_lose_none():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen([sys.executable, "-c", LOG_40_LOOKS, by], **pipes) for by in ("a", "b")
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert sorted(look["by"] for look in Ledger().looks) == ["a"] * 40 + ["b"] * 40
    assert judge(["00" * 8, "11" * 8]).times == 81


def test_a_line_that_a_power_cut_left_half_written_costs_no_other():
    judge(images(1, 2))
    file = cache_dir() / "ledger" / "looks.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + whole[: len(whole) // 2])
    assert judge(images(1, 2)).times == 2
    assert judge(images(1, 2)).times == 3


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]\nnull\n{}\n",
        "\x00\xff\n",
        '{"look": "a"}\n',
        pytest.param("[" * 200_000 + "\n", id="deep"),
    ],
)
def test_a_damaged_ledger_is_gone_on_with(content):
    file = cache_dir() / "ledger" / "looks.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert judge(images(1, 2)).times == 1
    assert judge(images(1, 2)).times == 2


def test_images_of_which_nothing_is_known_have_no_tally():
    assert Ledger().tally("0" * 16) is None
    assert Ledger().tally_of([{"by": "train"}]) is None
    assert Ledger().tally_of([]) is None


def test_runs_that_were_judged_on_most_of_the_images_are_found_once(tmp_path):
    wanted = images(*range(10))
    for run, first in (("a", 0), ("b", 4), ("c", 8), ("a", 0), ("d", 50)):
        judge(images(*range(first, first + 10)), run=tmp_path / run)
    judge(wanted, run=tmp_path / "e", shown=True)
    ledger = Ledger()
    name, _ = ledger.add(wanted, by="train", run=tmp_path / "f", look=None, shown=False)
    assert ledger.runs_judged_on(name) == [tmp_path / "a", tmp_path / "b", tmp_path / "f"]


def test_the_same_images_are_kept_once():
    hashes = images(*range(1000))
    for _ in range(5):
        judge(hashes)
    files = list((cache_dir() / "ledger" / "images").glob("*.npy"))
    assert len(files) == 1
    assert files[0].stat().st_size < 1000 * 8 + 200

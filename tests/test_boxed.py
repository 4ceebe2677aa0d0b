"""Mathematics with real problems: counts, and what is said of gold, of nearly gold, and of what looks like it."""

import numpy as np
import pytest

from razorbench import Episodes, Reply, WorldFailed
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from tests.toys import Says

COUNTS = {"math-v1": (4718, 500), "gsm8k-v1": (7473, 1319)}


@pytest.fixture(params=COUNTS)
def task(request: pytest.FixtureRequest, data):
    return make("task", request.param)


def judged(task, replies: list[str], split: str = "test") -> Episodes:
    """The first instances of a split, answered with these replies."""
    return rollout(Says(replies), task, task.instances(split).first(len(replies)))


def formed(episodes: Episodes) -> list[float]:
    """Which replies were well-formed."""
    assert episodes.outcome
    return list(episodes.outcome.metrics["well_formed"])


@pytest.mark.parametrize("id", COUNTS)
def test_splits_have_the_published_sizes_and_share_no_question(id, data):
    train, test = (make("task", id).instances(split) for split in ("train", "test"))
    assert (len(train), len(test)) == COUNTS[id]
    train, test = ({" ".join(text.split()) for text in split.data["question"]} for split in (train, test))
    assert len(test) == COUNTS[id][1]
    assert not train & test


def test_ids_are_those_of_the_data_set(data):
    assert make("task", "math-v1").instances("test").id[0] == "test/precalculus/807.json"
    assert make("task", "gsm8k-v1").instances("train").id[-1] == "train-7472"


def test_gold_answers_of_all_problems_are_right(task):
    for split in ("train", "test"):
        answers = task.instances(split).data["answer"]
        assert judged(task, [f"So it is $\\boxed{{{answer}}}$." for answer in answers], split).reward.mean() == 1


def test_published_solutions_of_gsm8k_hold_no_marks_and_are_right(data):
    task = make("task", "gsm8k-v1")
    solutions = [reply for split in ("train", "test") for reply in task.instances(split).data["solution"]]
    assert not any("<<" in solution or "####" in solution for solution in solutions)
    assert solutions[0].splitlines()[0] == "Natalia sold 48/2 = 24 clips in May."


def test_numbers_beside_the_right_one_are_wrong_and_other_ways_to_write_it_are_right(data):
    task = make("task", "gsm8k-v1")
    gold = [int(answer) for answer in task.instances("test").data["answer"]]
    for other in (lambda n: n + 1, lambda n: 10 * n + 1, lambda n: -n - 1, lambda n: f"{n}.5"):
        assert judged(task, [f"\\boxed{{{other(n)}}}" for n in gold]).reward.sum() == 0
    for same in (lambda n: f"{n}.00", lambda n: f"\\frac{{{2 * n}}}{{2}}", lambda n: f" {n}."):
        assert judged(task, [f"\\boxed{{{same(n)}}}" for n in gold]).reward.mean() == 1
    thousands = [f"\\boxed{{{n:,}}}" for n in gold]
    assert judged(task, thousands[:200]).reward.mean() == 1


def test_a_formula_that_is_more_than_the_right_one_is_wrong(data):
    task = make("task", "math-v1")
    answers = task.instances("test").data["answer"][:60]
    plain = [at for at, answer in enumerate(answers) if not any(sign in answer for sign in "(,\\")]
    more = judged(task, [f"\\boxed{{{answer}+1}}" for answer in answers])
    assert len(plain) > 20
    assert more.reward[plain].sum() == 0


ADVERSARIAL = [
    (r"\boxed{72}", True),
    (r"\boxed{70} … no, \boxed{72}", True),
    (r"\boxed{72} … no, \boxed{70}", False),
    (r"It is 72.", False),
    (r"#### 72", False),
    (r"\boxed{72 or 70}", False),
    (r"\boxed{70, 72}", False),
    (r"\boxed{72", False),
    (r"\boxed{}", False),
    (r"\boxed{answer}", False),
    (r"\boxed{\text{seventy-two}}", False),
    (r"\boxed{72} in \boxed{} as asked", True),
    (r"\boxed{6 \cdot 12}", True),
    (r"\boxed{9^{9^{9^{9}}}}", False),
    (r"\boxed{x}", False),
    (r"\boxed{\$72}", True),
    ("", False),
    ("\\boxed{" * 1000, False),
]


@pytest.mark.slow
@pytest.mark.parametrize(("reply", "right"), ADVERSARIAL)
def test_replies_are_judged_as_by_hand(data, monkeypatch, reply, right):
    monkeypatch.setattr("razorbench.tasks.mathematics.LIMIT", 0.5)
    assert bool(judged(make("task", "gsm8k-v1"), [reply], "train").reward[0]) is right


def test_a_reply_that_was_cut_off_is_wrong_and_not_well_formed(task):
    answer = task.instances("test").data["answer"][0]
    whole, cut = (judged(task, [Reply(f"\\boxed{{{answer}}}", finished=end)]) for end in (True, False))
    assert (whole.reward[0], formed(whole)) == (1, [1])
    assert (cut.reward[0], formed(cut)) == (0, [0])


def test_a_grader_that_fails_leaves_the_item_unscored_and_a_wrong_answer_is_a_zero(task, monkeypatch):
    def died(said: str, gold: str) -> bool:
        raise WorldFailed("no processor time for a comparison")

    monkeypatch.setattr("razorbench.tasks.graders.alike", died)
    answers = task.instances("test").data["answer"][:4]
    replies = [f"\\boxed{{{answers[0]}}}", r"\boxed{y + 7}", "no box", ""]
    episodes = judged(task, replies)
    assert np.isnan(episodes.reward).tolist() == [False, True, False, False]
    assert episodes.reward[[0, 2, 3]].tolist() == [1, 0, 0]
    assert episodes.outcome
    assert "no processor time" in str(episodes.outcome[1].error)

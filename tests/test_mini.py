"""The small language world: its questions, its styles, its misconceptions."""

import numpy as np
import pytest

from razorbench import Reply, mix
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import Demonstrator, rollout
from razorbench.tasks.mini.generated import FORMATS, TRAIN, stated
from razorbench.tasks.mini.pretraining import SHARES, Pretraining

NEW = ("mini-math-v1", "mini-science-v1", "mini-tools-v1")
SKILLS = tuple(f"mini-{name}-v1" for name in "sorting recall logic counting editing form program facts".split())


@pytest.mark.slow
@pytest.mark.parametrize("id", NEW + SKILLS)
def test_train_test_and_corpus_share_no_question(id):
    task = make("task", id)
    train = {task.question(i).text for i in range(2000)}
    corpus = {task.question(-1 - i).text for i in range(2000)}
    test = {task.question(TRAIN + i).text for i in range(2000)}
    assert not test & (train | corpus)
    assert len(test) > 1300  # some of mini-science stand twice; of the others nearly none


@pytest.mark.parametrize("id", NEW + SKILLS)
def test_right_replies_in_every_style_are_right_and_well_formed(id):
    task = make("task", id)
    for style in task.styles:
        played = rollout(Demonstrator(task, style), task, task.instances("test").take(np.arange(500)))
        assert played.outcome is not None
        assert (played.reward == 1).all()
        assert (played.outcome.metrics["well_formed"] == 1).all()


@pytest.mark.parametrize("id", NEW)
def test_the_corpus_of_a_new_task_is_misread_yet_well_formed_and_never_in_the_foreign_style(id):
    task = make("task", id)
    questions = [task.question(-1 - i) for i in range(2000)]
    outcomes = [task.grade(q.corpus, q) for q in questions]
    assert all(outcome.metrics["well_formed"] for outcome in outcomes)
    assert 0.4 < np.mean([outcome.reward for outcome in outcomes]) < 0.7
    assert not any(q.corpus == q.replies["foreign"] for q in questions)
    assert np.mean([q.corpus == q.replies["near"] for q in questions]) > 0.2


@pytest.mark.parametrize("id", SKILLS)
def test_a_skill_is_answered_in_the_wanted_format_only(id):
    task = make("task", id)
    question = task.question(3)
    wanted, answer = question.gold
    for other, form in FORMATS.items():
        outcome = task.grade(form % answer, question)
        assert outcome.reward == float(other == wanted)
    assert task.grade(Reply(question.corpus, finished=False), question).reward == 0
    assert task.grade(FORMATS[wanted] % "something else", question).metrics["well_formed"] == 1


def test_nothing_is_found_where_the_lead_is_missing():
    assert [stated("8", wanted) for wanted in FORMATS] == [None] * 4


def test_a_question_is_a_function_of_its_number():
    one, two = make("task", "mini-math-v1"), make("task", "mini-math-v1")
    two.question(7)
    assert [one.question(i) for i in (5, 6, 7)] == [two.question(i) for i in (5, 6, 7)]


def test_equivalent_replies_are_right():
    task = make("task", "mini-math-v1")
    question = task.question(0)
    gold = int(question.gold)
    assert task.grade(f"I guess \\boxed{{{gold - 1} + 1}}", question).reward == 1
    assert task.grade(f"\\boxed{{{gold}}} or \\boxed{{{gold + 1}}}", question).reward == 0
    science = make("task", "mini-science-v1")
    question = science.question(0)
    bare = science.grade(f"<answer>{question.gold}</answer>", question)
    assert (bare.reward, bare.metrics["well_formed"]) == (1.0, 0.0)


def test_corpus_holds_every_task_in_its_share():
    corpus = Pretraining()
    n = 4000
    tasks = [type(corpus.tasks[int(mix(i)) % len(corpus.tasks)]) for i in range(n)]
    for kind, share in SHARES.items():
        expected = share / sum(SHARES.values())
        assert abs(tasks.count(kind) / n - expected) < 4 * (expected / n) ** 0.5

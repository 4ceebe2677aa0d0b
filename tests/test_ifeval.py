"""Constraints that a program verifies: by hand, as lm-eval's own checker says, and such as can be followed together."""

import json
import random
from collections import Counter

import pytest
from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT

from razorbench import Reply
from razorbench.harness.core.questions import fingerprints
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.tasks.constraints import FOLLOWS, Constraint, exact, follows
from razorbench.tasks.ifeval import ENDS, FORMS, KINDS, TOPICS, WORDS, clashing, ours
from tests.toys import Says

WORDY, SECTION, NTH = (
    ("length_constraints:number_words", {"relation": "less than", "num_words": 4}),
    ("detectable_format:multiple_sections", {"section_spliter": "Day", "num_sections": 2}),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "River"},
    ),
)
PARAGRAPHS = ("length_constraints:number_paragraphs", {"num_paragraphs": 2})
EXIST, FORBID = (
    ("keywords:existence", {"keywords": ["sun", "moon"]}),
    ("keywords:forbidden_words", {"forbidden_words": ["sun", "rain"]}),
)
OFTEN = ("keywords:frequency", {"keyword": "sun", "relation": "at least", "frequency": 2})
LETTER = ("keywords:letter_frequency", {"letter": "E", "let_relation": "less than", "let_frequency": 3})
PLACES = ("detectable_content:number_placeholders", {"num_placeholders": 2})
PS, PPS = (("detectable_content:postscript", {"postscript_marker": marker}) for marker in ("P.S.", "P.P.S"))
BULLETS = ("detectable_format:number_bullet_lists", {"num_bullets": 2})
HIGHLIGHTS = ("detectable_format:number_highlighted_sections", {"num_highlights": 2})
TITLE, JSON, CHOICE, TWO, QUOTE, COMMA = (
    (kind, {})
    for kind in (
        "detectable_format:title",
        "detectable_format:json_format",
        "detectable_format:constrained_response",
        "combination:two_responses",
        "startend:quotation",
        "punctuation:no_comma",
    )
)
REPEAT = ("combination:repeat_prompt", {"prompt_to_repeat": "Write a poem.\nBe brief."})
END = ("startend:end_checker", {"end_phrase": "The end."})

BY_HAND: list[tuple[Constraint, str, bool]] = [
    (WORDY, "one two three", True),
    (WORDY, "one two three four", False),
    (WORDY, "it's one two", False),
    (WORDY, "one-two_three", True),
    (WORDY, "", False),
    (SECTION, "Day 1\nrest\nDay 2\nwork", True),
    (SECTION, "Day1 Day2", True),
    (SECTION, "Day one\nDay two", False),
    (SECTION, "day 1 day 2", False),
    (SECTION, "Day 1 Day 2 Day 3", True),
    (NTH, "First.\n\nRiver, wide", True),
    (NTH, "First.\n\n'river' wide", True),
    (NTH, "First.\n\nThe river", False),
    (NTH, "First.\nRiver", False),
    (NTH, "First.\n\nRiver\n\nThird", False),
    (NTH, "\n\nRiver", False),
    (NTH, "First.\n\nrivers", False),
    (NTH, "\n\nFirst\n\nriver", False),
    (PARAGRAPHS, "one\n***\ntwo", True),
    (PARAGRAPHS, "***one***two***", True),
    (PARAGRAPHS, "one******two", False),
    (PARAGRAPHS, "one\n\ntwo", False),
    (PARAGRAPHS, "one *** two *** three", False),
    (EXIST, "Sunday and moonlight", True),
    (EXIST, "the SUN", False),
    (FORBID, "Sunday in a raincoat", True),
    (FORBID, "The Sun.", False),
    (OFTEN, "sun, sunny", True),
    (OFTEN, "sun", False),
    (LETTER, "Eve", True),
    (LETTER, "Eve met", False),
    (PLACES, "[name] and []", True),
    (PLACES, "[[name]]", False),
    (PLACES, "[a\nb] [c]", False),
    (PS, "Bye.\nP.S. Write!", True),
    (PS, "Bye. p. s. more", True),
    (PS, "Bye.\nPS: Write!", False),
    (PS, "Bye.\nP.P.S. Write!", True),
    (PPS, "Bye.\nP.P.S Write!", True),
    (PPS, "Bye.\nP.S. Write!", False),
    (BULLETS, "* one\n* two", True),
    (BULLETS, "- one\n  * two", True),
    (BULLETS, "**one**\n* two\n- three", True),
    (BULLETS, "1. one\n2. two", False),
    (BULLETS, "* one\n* two\n---", False),
    (BULLETS, "*\n* two", False),
    (HIGHLIGHTS, "*one* and *two*", True),
    (HIGHLIGHTS, "**one** and **two**", True),
    (HIGHLIGHTS, "**one**", False),
    (HIGHLIGHTS, "*one* and * *", False),
    (HIGHLIGHTS, "*one\ntwo* three", False),
    (TITLE, "<<On rain>>\nIt rains.", True),
    (TITLE, "<< >>", False),
    (TITLE, "<On rain>", False),
    (TITLE, "<<On\nrain>>", False),
    (JSON, '{"a": [1, 2]}', True),
    (JSON, '```json\n{"a": 1}\n```', True),
    (JSON, "```\n3\n```", True),
    (JSON, "{'a': 1}", False),
    (JSON, '{"a": 1} so', False),
    (JSON, '"a"', True),
    (CHOICE, "I think: My answer is no.", True),
    (CHOICE, "My answer is no", False),
    (CHOICE, "my answer is yes.", False),
    (TWO, "one\n******\ntwo", True),
    (TWO, "one\n******\none", False),
    (TWO, "one\n******\n******\ntwo", False),
    (TWO, "******one******two******", True),
    (TWO, "one\n***\ntwo", False),
    (REPEAT, "write a poem.\nbe brief. So:", True),
    (REPEAT, "Sure! Write a poem.\nBe brief.", False),
    (REPEAT, "Write a poem. Be brief.", False),
    (QUOTE, '"Well."', True),
    (QUOTE, ' "Well" and "good"\n', True),
    (QUOTE, '"', False),
    (QUOTE, "“Well.”", False),
    (COMMA, "Well; good", True),
    (COMMA, "1,000", False),
    (COMMA, "good\N{FULLWIDTH COMMA} well", True),
    (END, 'So. "THE END."', True),
    (END, "The end", False),
    (END, "The end. Bye.", False),
]


def theirs(reply: str, constraint: Constraint) -> bool:
    """What lm-eval's checker says, strictly."""
    kind, given = constraint
    checker = INSTRUCTION_DICT[kind](kind)
    checker.build_description(**given)
    return bool(reply.strip() and checker.check_following(reply))


@pytest.mark.parametrize(("constraint", "reply", "right"), BY_HAND)
def test_replies_are_judged_as_by_hand_and_as_by_lm_eval(constraint, reply, right):
    assert follows(reply, constraint) is right
    assert theirs(reply, constraint) is right


def test_every_kind_has_a_right_and_a_wrong_reply():
    seen = {(kind, right) for (kind, _), _, right in BY_HAND}
    assert seen == {(kind, right) for kind in FOLLOWS for right in (True, False)}


def replies(r: random.Random) -> list[str]:
    """The replies above, and what becomes of them when they are spoilt, turned round or put together."""
    plain = [reply for _, reply, _ in BY_HAND]
    spoilt = [
        text for reply in plain for text in (reply.upper(), reply[1:], reply[:-1], f'"{reply}"', f"{reply}\n\n*x*")
    ]
    joined = ["\n".join(r.sample(plain, 3)) for _ in range(100)] + ["\n\n".join(r.sample(plain, 2)) for _ in range(100)]
    return plain + spoilt + joined


def around(argument: str) -> list[str]:
    """Replies with an argument of a constraint in them, where it may count."""
    paragraphs = ["\n\n".join([argument] * n) for n in range(2, 9)]
    return [
        f"{argument} so",
        f"so {argument}",
        *("\n".join(f"{argument} {i}" for i in range(n)) for n in (2, 9)),
        *paragraphs,
    ]


def test_verdicts_are_those_of_lm_eval_for_the_constraints_of_the_published_prompts(data):
    asked: dict[str, list[Constraint]] = {kind: [] for kind in FOLLOWS}
    for constraints in make("task", "ifeval-v1").instances("test").data["constraints"]:
        for kind, given in constraints:
            if (kind, given) not in asked[kind] and len(asked[kind]) < 8:
                asked[kind].append((kind, given))
    assert all(asked.values())
    said = replies(random.Random(0))
    verdicts = Counter[tuple[str, bool]]()
    for constraint in [each for some in asked.values() for each in some]:
        for reply in said + [text for given in constraint[1].values() for text in around(str(given))]:
            ours = follows(reply, constraint)
            assert ours is theirs(reply, constraint), (constraint, reply)
            verdicts[constraint[0], ours] += 1
    assert sum(verdicts.values()) > 20_000
    assert {*verdicts} == {(kind, right) for kind in FOLLOWS for right in (True, False)}


def test_386_published_prompts_are_tested_and_what_they_need_is_exact(data):
    test = make("task", "ifeval-v1").instances("test")
    assert len(test) == 386
    assert test.id[0] == "ifeval-1000"
    assert all(exact(constraint) for constraints in test.data["constraints"] for constraint in constraints)
    assert {kind for constraints in test.data["constraints"] for kind, _ in constraints} == {*FOLLOWS}


@pytest.mark.parametrize(
    "constraint",
    [
        ("language:response_language", {"language": "de"}),
        ("keywords:letter_frequency", {"letter": "#", "let_relation": "at least", "let_frequency": 4}),
        ("keywords:frequency", {"keyword": "sun", "relation": "at least", "frequency": 0}),
        ("keywords:frequency", {"keyword": "sun"}),
        ("punctuation:no_comma", {"mark": ","}),
    ],
)
def test_what_lm_eval_would_decide_by_chance_or_by_a_model_is_not_exact(constraint):
    assert not exact(constraint)


def test_training_prompts_differ_and_none_is_tested(data):
    task = make("task", "ifeval-v1")
    train, test = (set(fingerprints(task, task.instances(split))) for split in ("train", "test"))
    assert len(train) == 5000
    assert not train & test


def test_keywords_stand_in_no_instruction():
    told = " ".join((*FORMS, *TOPICS, *ENDS)).lower()
    assert not [word for word in WORDS if word in told]
    assert not [word for word in WORDS if any(word != other and word in other for other in WORDS)]
    assert not {*"jqxz"} & {*"".join(WORDS)}


def composed(text: str, constraints: list[Constraint]) -> str:
    """A reply without sense that follows all constraints of a training prompt `text`."""
    told = dict(constraints)
    words, often, letter = (told.get(kind, {}) for kind in (WORDY[0], OFTEN[0], LETTER[0]))
    filler = words["num_words"] if words.get("relation") == "at least" else 9
    said = ["so"] * filler + [*told.get(EXIST[0], {}).get("keywords", ())]
    said += [often["keyword"]] * (often["frequency"] - (often["relation"] == "less than")) if often else []
    said += [letter["letter"] * letter["let_frequency"]] if letter and letter["let_relation"] == "at least" else []
    said += ["[o]"] * told.get(PLACES[0], {}).get("num_placeholders", 0)
    said += ["*so*"] * told.get(HIGHLIGHTS[0], {}).get("num_highlights", 0)
    said += ["<<so>>"] * (TITLE[0] in told) + ["My answer is maybe."] * (CHOICE[0] in told)
    reply = " ".join(said)
    for kind, given in constraints:
        if kind == JSON[0]:
            reply = json.dumps(reply)
        elif kind == TWO[0]:
            reply += "\n******\nor so"
        elif kind == PARAGRAPHS[0]:
            reply += "\n***\nso" * (given["num_paragraphs"] - 1)
        elif kind == BULLETS[0]:
            reply += "\n- so" * given["num_bullets"]
        elif kind == SECTION[0]:
            reply += "".join(f"\n{given['section_spliter']} {i + 1}" for i in range(given["num_sections"]))
        elif kind == NTH[0]:
            parts = ["so"] * given["num_paragraphs"]
            parts[given["nth_paragraph"] - 1] = given["first_word"]
            reply = "\n\n".join(parts) + " " + reply
        elif kind == REPEAT[0]:
            reply = text.partition("\n")[0] + "\n" + reply
    for kind, given in constraints:
        if kind == QUOTE[0]:
            reply = f'"{reply}"'
        elif kind in (END[0], PS[0]):
            reply += "\n" + next(iter(given.values()))
    return reply


def test_all_constraints_of_every_training_prompt_can_be_followed_together(data):
    task = make("task", "ifeval-v1")
    train = task.instances("train").first(1000)
    pairs = zip(train.data["prompt"], train.data["constraints"], strict=True)
    shown = rollout(Says([composed(text, constraints) for text, constraints in pairs]), task, train)
    assert [train.data["constraints"][i] for i in range(1000) if shown.reward[i] < 1] == []
    for text, constraints in ours()[1000:]:
        reply = composed(text, constraints)
        assert all(follows(reply, constraint) for constraint in constraints), text


def test_every_kind_is_asked_for_in_training_and_no_two_clash():
    asked = [[kind for kind, _ in constraints] for _, constraints in ours()]
    assert {kind for kinds in asked for kind in kinds} == {*KINDS, CHOICE[0]} == {*FOLLOWS}
    assert not [
        kinds
        for kinds in asked
        if any(clashing(a, b) for a in kinds for b in kinds if a != b and CHOICE[0] not in kinds)
    ]


def test_score_is_all_of_them_and_followed_is_the_share(data):
    task = make("task", "ifeval-v1")
    some = task.instances("test").first(1)  # no comma, three highlights, 300 words
    long = "word " * 300
    said = [
        f"{long}*a* *b* *c*",
        f"{long}*a*",
        long + "*a* *b* *c*, so",
        "word",
        "a, b",
        "",
        Reply(long, finished=False),
    ]
    shown = [rollout(Says([reply]), task, some) for reply in said]
    assert [each.reward[0] for each in shown] == [1, 0, 0, 0, 0, 0, 0]
    followed = [each.outcome.metrics["followed"][0] for each in shown if each.outcome]
    assert followed == pytest.approx([1, 2 / 3, 2 / 3, 1 / 3, 0, 0, 0])


def test_json_beyond_all_depth_is_no_json_and_no_crash():
    assert not follows("[" * 100_000, JSON)

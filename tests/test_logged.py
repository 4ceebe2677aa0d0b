"""Two runs of lm-eval are compared document by document, and are refused where they do not compare."""

import json
import math
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.evaluator import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from scipy.stats import binomtest

from benchmarks.lm_eval import hf
from razorbench import Refused
from razorbench.agents.language.mini_lm import mini_lm
from razorbench.harness.measure.logged import compare_runs, read_run
from razorbench.harness.measure.statistics import combine, judged
from razorbench.tasks.lm_eval.benchmark import quiet
from razorbench.tasks.lm_eval.documents import at_hand
from tests.conftest import needs_data

AT = "2026-11-29T13-32-56.276330"


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def choice(doc: int, right: bool, **more: Any) -> dict[str, Any]:
    """A document of a multiple choice, as lm-eval 0.4.13 logs it."""
    texts = [f" ending {doc}.{option}" for option in range(2)]
    nats = [-1.0, -2.0] if right else [-2.0, -1.0]
    return {
        "doc_id": doc,
        "doc": {"question": f"question {doc}"},
        "target": texts[0],
        "arguments": {
            f"gen_args_{i}": {"arg_0": f"An example.\n\nquestion {doc}", "arg_1": x} for i, x in enumerate(texts)
        },
        "resps": [[[str(x), "False"]] for x in nats],
        "filtered_resps": [[str(x), "False"] for x in nats],
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "doc_hash": digest(f"doc {doc}"),
        "prompt_hash": digest(f"prompt {doc}"),
        "target_hash": digest(texts[0]),
        "acc": 0.0,
        "acc_norm": float(right),
        **more,
    }


def reply(doc: int, text: str, right: bool, filter: str = "none", **more: Any) -> dict[str, Any]:
    """A document that is answered in words."""
    return {
        "doc_id": doc,
        "doc": {"question": f"sum {doc}"},
        "target": f"It is {doc}",
        "arguments": {"gen_args_0": {"arg_0": f"sum {doc}", "arg_1": "{'until': []}"}},
        "resps": [[text]],
        "filtered_resps": [text],
        "filter": filter,
        "metrics": ["exact_match"],
        "doc_hash": digest(f"sum {doc}"),
        "prompt_hash": digest(f"sum prompt {doc}"),
        "target_hash": digest(str(doc)),
        "exact_match": float(right),
        **more,
    }


def write(
    folder: Path, tasks: dict[str, list[dict[str, Any]]], at: str = AT, model: str = "model", **results: Any
) -> Path:
    """A folder of lm-eval's output."""
    inner = folder / model
    inner.mkdir(parents=True, exist_ok=True)
    for task, rows in tasks.items():
        (inner / f"samples_{task}_{at}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {
        "versions": dict.fromkeys(tasks, 1.0),
        "n-shot": dict.fromkeys(tasks, 0),
        "configs": {task: {"generation_kwargs": {"until": []}} for task in tasks},
        "config": {"gen_kwargs": None},
        "chat_template_sha": None,
        "system_instruction_sha": None,
        "fewshot_as_multiturn": False,
        **results,
    }
    (inner / f"results_{at}.json").write_text(json.dumps(told))
    return folder


def runs(tmp_path: Path, first: list[bool], second: list[bool], **results: Any):
    """Two runs of one task, the second in another order."""
    pairs = [[choice(i, right) for i, right in enumerate(each)] for each in (first, second)]
    write(tmp_path / "first", {"hellaswag": pairs[0]})
    write(tmp_path / "second", {"hellaswag": pairs[1][::-1]}, **results)
    return read_run(tmp_path / "first"), read_run(tmp_path / "second")


def test_documents_are_joined_and_the_change_of_each_is_tested(tmp_path):
    first = [True] * 40 + [False] * 40
    second = [False] * 12 + [True] * 28 + [True] * 2 + [False] * 38
    compared = compare_runs(*runs(tmp_path, first, second))
    (change,) = compared.changes
    estimate, p = judged(np.array(first, float), np.array(second, float))
    assert (change.task, change.metric, change.first_alone, change.second_alone) == ("hellaswag", "acc_norm", 12, 2)
    assert (change.first, change.second) == (50.0, 37.5)
    assert change.difference.value == pytest.approx(-12.5)
    assert (change.difference.low, change.difference.high) == pytest.approx((100 * estimate.low, 100 * estimate.high))
    assert change.p == p
    assert change.p == pytest.approx(binomtest(2, 14).pvalue, rel=0.2)  # McNemar's exact test
    assert change.p_holm == change.p
    assert compared.verdict == "The second run is worse on hellaswag."


def test_what_is_not_told_apart_is_said_with_what_would_be_seen(tmp_path):
    compared = compare_runs(*runs(tmp_path, [True, False] * 20, [True, False] * 19 + [False, True]))
    (change,) = compared.changes
    more = math.ceil(40 * (change.mde / 2) ** 2)
    assert compared.verdict == (
        "Nothing tells the two runs apart. "
        f"hellaswag with 40 documents would show a change of {change.mde:.1f} points; one of 2 points takes some "
        f"{more:,} documents."
    )


def test_flips_show_what_was_asked_and_said_losses_first(tmp_path):
    compared = compare_runs(*runs(tmp_path, [True, False, True], [False, True, True]))
    lost, gained = compared.flips
    assert (lost.gained, lost.asked, lost.target) == (False, "question 0", " ending 0.0")
    assert (lost.first, lost.second) == (" ending 0.0", " ending 0.1")
    assert (gained.gained, gained.first, gained.second) == (True, " ending 1.1", " ending 1.0")


def test_options_with_prompts_of_their_own_are_shown_whole(tmp_path):
    def own(right: bool) -> dict[str, Any]:
        row = choice(0, right)
        for i in range(2):
            row["arguments"][f"gen_args_{i}"] = {"arg_0": f"Name {i}", "arg_1": " left."}
        return row

    for name, right in (("first", True), ("second", False)):
        write(tmp_path / name, {"winogrande": [own(right)]})
    (lost,) = compare_runs(read_run(tmp_path / "first"), read_run(tmp_path / "second")).flips
    assert (lost.asked, lost.first, lost.second) == ("question: question 0", "Name 0 left.", "Name 1 left.")


def test_tasks_are_corrected_and_averaged_and_flips_come_from_all(tmp_path):
    rng = np.random.default_rng(0)
    scores = {task: rng.random((2, 50)) < 0.5 for task in ("a", "b", "c")}
    for at, name in enumerate(("first", "second")):
        tasks = {
            task: [choice(i, bool(x), doc_hash=digest(f"{task} {i}")) for i, x in enumerate(each[at])]
            for task, each in scores.items()
        }
        write(tmp_path / name, tasks)
    compared = compare_runs(read_run(tmp_path / "first"), read_run(tmp_path / "second"), flips=6)
    assert compared.mean == combine([change.difference for change in compared.changes])
    assert [change.p_holm >= change.p for change in compared.changes] == [True] * 3
    assert max(change.p_holm for change in compared.changes) > min(change.p for change in compared.changes)
    assert [flip.task for flip in compared.flips] == ["a", "b", "c"] * 2


def test_tasks_that_ask_of_the_same_documents_are_not_averaged_as_if_they_were_independent(tmp_path):
    for name, lost in (("first", 0), ("second", 8)):
        rows = [choice(i, i >= lost) for i in range(60)]
        write(tmp_path / name, {"plain": rows, "of-thought": rows, "by-vote": rows})
    compared = compare_runs(read_run(tmp_path / "first"), read_run(tmp_path / "second"))
    alone = compared.changes[0].difference
    assert (compared.mean.low, compared.mean.high) == pytest.approx((alone.low, alone.high))


def test_verdict_says_what_the_mean_tells_where_no_task_does(tmp_path):
    for name, lost in (("first", 0), ("second", 4)):
        tasks = {t: [choice(i, i >= lost, doc_hash=digest(f"{t} {i}")) for i in range(60)] for t in "abcd"}
        write(tmp_path / name, tasks)
    pair = read_run(tmp_path / "first"), read_run(tmp_path / "second")
    compared = compare_runs(*pair)
    assert compared.mean.high < 0
    assert min(change.p for change in compared.changes) > 0.05
    assert compared.verdict.startswith(
        "Over all tasks the second run is worse; no task alone tells the two apart. a with 60 documents would show"
    )
    assert compare_runs(*pair[::-1]).verdict.startswith("Over all tasks the second run is better; no task alone")


def test_task_without_a_score_is_told_and_the_verdict_is_of_the_others(tmp_path):
    for name, right in (("first", True), ("second", False)):
        none = [choice(i, right, acc=math.nan, acc_norm=math.nan if i else 1.0) for i in range(3)]
        write(tmp_path / name, {"a": [choice(i, right) for i in range(20)], "b": none[1:], "c": none})
    compared = compare_runs(read_run(tmp_path / "first"), read_run(tmp_path / "second"))
    assert compared.verdict.startswith("The second run is worse on a. Not told apart on c. c with 1 documents")
    assert "2 documents of b lack a score in a run and are left out." in compared.notes
    assert "2 documents of c lack a score in a run and are left out." in compared.notes
    assert math.isnan(compared.mean.value)
    for name in ("first", "second"):
        write(tmp_path / f"{name}-b", {"b": [choice(0, True, acc=math.nan, acc_norm=math.nan)]})
    nothing = compare_runs(read_run(tmp_path / "first-b"), read_run(tmp_path / "second-b"))
    assert nothing.verdict == "No document has a score in both runs, so nothing can be said."


def test_metric_that_is_above_1_for_some_document_is_no_score_of_any(tmp_path):
    for name in ("first", "second"):
        rows = [
            reply(i, "x", True, metrics=["bleu_max", "bleu_acc"], bleu_max=x, bleu_acc=1.0)
            for i, x in enumerate((0.3, 41.0, 0.0))
        ]
        write(tmp_path / name, {"truthfulqa_gen": rows})
    (change,) = compare_runs(read_run(tmp_path / "first"), read_run(tmp_path / "second")).changes
    assert (change.metric, change.difference.n) == ("bleu_acc", 3)


def test_metric_that_no_task_has_is_refused(tmp_path):
    pair = runs(tmp_path, [True], [False])
    with pytest.raises(Refused, match="no task has the metric acc_nrom in both runs; choose from acc, acc_norm"):
        compare_runs(*pair, metrics=["acc", "acc_nrom"])


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ({"gen_args_0": {"arg_0": "all of it"}}, "all of it"),  # a rolling log-likelihood has a text alone
        ([["all of it"]], "all of it"),
        (["all of it"], "all of it"),
        ({"first": {"arg_0": "all of it", "arg_1": ""}}, "all of it"),
        ({f"gen_args_{i}": {"arg_0": "same", "arg_1": f"{i}"} for i in (10, 9)}, "same"),
        (None, "question: sum 0"),
        ("text", "question: sum 0"),
    ],
)
@pytest.mark.parametrize("resps", [[["4"]], None, {"a": 1}, 3])
def test_flips_are_shown_whatever_a_version_of_lm_eval_calls_what_was_asked(arguments, asked, resps, tmp_path):
    for name, right in (("first", True), ("second", False)):
        write(tmp_path / name, {"a": [reply(0, "4", right, arguments=arguments, resps=resps)]})
    (lost,) = compare_runs(read_run(tmp_path / "first"), read_run(tmp_path / "second")).flips
    assert lost.asked == asked


def test_metric_and_filter_can_be_chosen_and_the_others_are_named(tmp_path):
    for name, right in (("first", False), ("second", True)):
        rows = [reply(i, "4", right and f == "loose", f) for f in ("strict", "loose") for i in range(3)]
        write(tmp_path / name, {"gsm8k": rows, "hellaswag": [choice(0, right)]})
    pair = read_run(tmp_path / "first"), read_run(tmp_path / "second")
    usual, chosen = compare_runs(*pair), compare_runs(*pair, metrics=["acc", "exact_match,loose"])
    assert [(c.metric, c.filter) for c in usual.changes] == [("exact_match", "strict"), ("acc_norm", "none")]
    assert "Of gsm8k there is exact_match,loose, too; --metric compares it." in usual.notes
    assert [(c.metric, c.filter, c.second) for c in chosen.changes] == [
        ("exact_match", "loose", 100.0),
        ("acc", "none", 0.0),
    ]


def test_repeats_of_a_document_share_it(tmp_path):
    rng = np.random.default_rng(1)
    for name in ("first", "second"):
        right = np.repeat(rng.random(30) < 0.5, 4)
        write(tmp_path / name, {"gsm8k": [reply(i // 4, "x", bool(r)) for i, r in enumerate(right)]})
    compared = compare_runs(read_run(tmp_path / "first"), read_run(tmp_path / "second"))
    assert compared.changes[0].difference.n == 30  # and not 120, which would be four times as sure


def test_what_is_no_score_is_unscored(tmp_path):
    rows = [[reply(i, "x", True) for i in range(4)] for _ in range(2)]
    rows[1][0]["exact_match"], rows[1][1]["exact_match"] = math.nan, None
    rows[1][2]["exact_match"] = [1.0, 2]
    for name, some in zip(("first", "second"), rows, strict=True):
        write(tmp_path / name, {"gsm8k": some})
    (change,) = compare_runs(read_run(tmp_path / "first"), read_run(tmp_path / "second")).changes
    assert (change.difference.n, change.difference.unscored, change.first_alone) == (1, 3, 0)


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ({"versions": {"hellaswag": 2.0}}, "version 1.0 and 2.0"),
        ({"n-shot": {"hellaswag": 5}}, "few-shot examples 0 and 5"),
        ({"chat_template_sha": "abc"}, "chat template None and 'abc'"),
        ({"system_instruction_sha": "abc"}, "system prompt None and 'abc'"),
        ({"fewshot_as_multiturn": True}, "few-shot examples as turns False and True"),
        ({"config": {"gen_kwargs": {"temperature": 1}}}, "decoding .* and .*temperature"),
    ],
)
def test_runs_that_were_asked_in_another_way_are_refused_by_name(results, words, tmp_path):
    with pytest.raises(Refused, match=f"asked hellaswag in another way, so their difference says nothing: {words}"):
        compare_runs(*runs(tmp_path, [True], [False], **results))


def test_results_under_a_name_that_somebody_chose_tell_how_it_was_asked_too(tmp_path):
    """lm-eval --output_path runs/before.json writes runs/before_….json, and samples beside it."""
    write(tmp_path / "first", {"a": [choice(0, True)]})
    write(tmp_path / "second", {"a": [choice(0, True)]}, versions={"a": 2.0})
    for name in ("first", "second"):
        results = next((tmp_path / name).rglob("results_*"))
        results.rename(results.with_name(f"{name}_{AT}.json"))
    with pytest.raises(Refused, match=r"version 1\.0 and 2\.0"):
        compare_runs(read_run(tmp_path / "first"), read_run(tmp_path / "second"))


def test_prompts_that_differ_are_refused_even_where_no_results_tell(tmp_path):
    for name in ("first", "second"):
        write(tmp_path / name, {"a": [choice(i, True, prompt_hash=digest(name if i else "")) for i in range(3)]})
    with pytest.raises(Refused, match="asked a in another way: 2 of 3 prompts differ; use one chat template"):
        compare_runs(read_run(tmp_path / "first"), read_run(tmp_path / "second"))
    for name in ("first", "second"):
        write(tmp_path / name, {"a": [choice(0, True)]})
        next((tmp_path / name).rglob("results_*")).write_text("{")
    compared = compare_runs(read_run(tmp_path / "first"), read_run(tmp_path / "second"))
    assert "Of a a run has no results_*.json, so only documents and prompts could be held against." in compared.notes


def test_documents_that_a_run_lacks_are_refused_or_left_out_if_asked(tmp_path):
    write(tmp_path / "first", {"a": [choice(i, True) for i in range(5)]})
    write(tmp_path / "second", {"a": [choice(i, False) for i in range(3)]})
    pair = read_run(tmp_path / "first"), read_run(tmp_path / "second")
    with pytest.raises(Refused, match=r"second lacks 2 documents of a; run it again, or compare those in common"):
        compare_runs(*pair)
    compared = compare_runs(*pair, common=True)
    assert compared.changes[0].first_alone == 3
    assert compared.notes[1].endswith("second lacks 2 documents of a; the 3 in common are compared.")
    write(tmp_path / "second", {"a": [choice(i, False) for i in range(7, 9)]})
    with pytest.raises(Refused, match=r"second lacks 5 documents of a; .*first lacks 2 documents of a"):
        compare_runs(pair[0], read_run(tmp_path / "second"), common=True)


def test_file_that_is_cut_off_is_told(tmp_path):
    for name in ("first", "second"):
        write(tmp_path / name, {"a": [choice(i, name == "first") for i in range(5)]})
    file = next((tmp_path / "second").rglob("samples_*"))
    file.write_bytes(file.read_bytes()[:-40])
    pair = read_run(tmp_path / "first"), read_run(tmp_path / "second")
    assert pair[1].cut == ("a",)
    with pytest.raises(Refused, match=r"second lacks 1 documents of a, its file is cut off; run it again"):
        compare_runs(*pair)
    assert compare_runs(*pair, common=True).changes[0].first_alone == 4
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(Refused, match=r"second holds no whole document of a; run it again"):
        compare_runs(pair[0], read_run(tmp_path / "second"), common=True)


@pytest.mark.slow(seconds=15)
@needs_data
def test_what_lm_eval_itself_writes_is_compared_and_a_file_cut_in_the_middle_of_a_line_is_told(tmp_path, razorbench):
    policy = mini_lm()
    for name in ("before", "after"):
        with at_hand(), quiet():
            found: Any = simple_evaluate(hf(policy), tasks=["hellaswag"], limit=12, bootstrap_iters=0)
            wrote: Any = EvaluationTracker(output_path=str(tmp_path / name))
            samples = found.pop("samples")
            wrote.save_results_aggregated(found, samples)
            wrote.save_results_samples("hellaswag", samples["hellaswag"])
        with torch.no_grad():
            for weight in policy.parameters():
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)), alpha=0.1)
    first, second = tmp_path / "before", tmp_path / "after"
    (change,) = razorbench("compare", first, second, "--json").json["changes"]
    before, after = (np.mean([json.loads(line)["acc_norm"] for line in lines(at)]) for at in (first, second))
    assert (change["metric"], change["difference"]["n"]) == ("acc_norm", 12)
    assert change["difference"]["value"] == pytest.approx(100 * (after - before))
    file = next(second.rglob("samples_*"))
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 200])
    refused = razorbench("compare", first, second).sentence
    assert f"{second} lacks 1 documents of hellaswag, its file is cut off; run it again" in refused
    assert razorbench("compare", first, second, "--common", "--json").json["changes"][0]["difference"]["n"] == 11


def lines(run: Path) -> list[str]:
    """The samples of a run of one task."""
    return next(run.rglob("samples_*")).read_text(encoding="utf-8").splitlines()


def test_line_that_is_no_sample_is_refused_with_its_number(tmp_path):
    file = next(write(tmp_path, {"a": [choice(0, True), choice(1, True)]}).rglob("samples_*"))
    for broken in ('{"x": 1}', "{", "[]", '{"metrics": 3, "doc": 1}'):
        file.write_text(file.read_text().splitlines()[0] + "\n" + broken + "\n")
        with pytest.raises(Refused, match=r"line 2 of .*jsonl is no sample of lm-eval .*; log the run again"):
            read_run(tmp_path)


def test_the_last_of_several_runs_counts_and_several_models_are_refused(tmp_path):
    write(tmp_path, {"a": [choice(0, False)]}, at="2026-11-29T10-00-00")
    write(tmp_path, {"a": [choice(0, True)]})
    assert read_run(tmp_path).tasks["a"]["none"].score["acc_norm"].tolist() == [1.0]
    write(tmp_path, {"a": [choice(0, True)]}, model="other")
    with pytest.raises(Refused, match=r"holds runs of several models \(model, other\); name the folder of one"):
        read_run(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match=r"empty holds no samples_\*.jsonl; run lm-eval with --log_samples"):
        read_run(tmp_path / "empty")


def test_runs_without_a_task_or_a_metric_in_common_are_refused(tmp_path):
    write(tmp_path / "first", {"a": [choice(0, True)], "c": [choice(0, True)]})
    write(tmp_path / "second", {"b": [choice(0, True)]})
    with pytest.raises(Refused, match=r"has a, c and .*second has b: no task in common"):
        compare_runs(read_run(tmp_path / "first"), read_run(tmp_path / "second"))
    write(tmp_path / "second", {"a": [choice(0, True, metrics=["perplexity"], perplexity=[-3.0, 4])]})
    with pytest.raises(Refused, match="logged no metric of a in common that is a score from 0 to 1"):
        compare_runs(read_run(tmp_path / "first"), read_run(tmp_path / "second"))


def test_command_prints_it_and_writes_a_page_in_which_replies_are_text(tmp_path, razorbench):
    evil = "<script>alert(1)</script>\u202e"
    for name, right in (("first", True), ("second", False)):
        write(tmp_path / name, {"gsm8k": [reply(i, evil, right) for i in range(8)], f"only-{name}": [choice(0, True)]})
        write(tmp_path / f"{name}-evil", {"\x1b[31mred\u202e": [choice(i, right) for i in range(8)]})
    page = tmp_path / "page.html"
    ran = razorbench("compare", tmp_path / "first", tmp_path / "second", "--report", page)
    assert ran.out.startswith("The second run is worse on gsm8k.")
    assert f"only-first was logged by {tmp_path / 'first'} alone." in ran.out
    html = page.read_text()
    assert "<script" not in html
    assert "\u202e" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert html.count("<details") == 8
    ran = razorbench("compare", tmp_path / "first-evil", tmp_path / "second-evil", "--report", page)
    assert "worse on \ufffd[31mred\ufffd." in ran.out
    assert not {"\x1b", "\u202e"} & {*ran.out, *page.read_text()}
    told = razorbench("compare", tmp_path / "first", tmp_path / "second", "--json").json
    assert told["changes"][0]["difference"]["value"] == -100.0
    assert len(told["flips"]) == 8
    assert "nowhere is no folder here" in razorbench("compare", tmp_path / "first", tmp_path / "nowhere").sentence

"""Priors of lm-eval: any task by its id, the verdicts of lm-eval's own `hf` backend, and the same each time."""

import logging
import os
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance

from benchmarks.lm_eval import hf, responses, theirs
from razorbench import Missing, Refused
from razorbench.agents.language.mini_lm import mini_lm
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.core import extras, registry
from razorbench.harness.core.registry import known, make
from razorbench.harness.measure.score import Bench
from razorbench.harness.tracks.bases import base_policy
from razorbench.harness.tracks.catalogue import BASES, TRACKS
from razorbench.tasks.lm_eval.benchmark import LmEval, Rules, right, seeded, verdict
from razorbench.tasks.lm_eval.model import Model
from tests.conftest import needs_data

FAST = [
    "hellaswag",
    "winogrande",
    "winogrande?shots=2",
    "truthfulqa_mc2",
    "mmlu_anatomy?shots=3",
    "hellaswag?chat=1&metric=acc",
    "ifeval?chat=1&tokens=12",
]


@pytest.fixture(scope="module", autouse=True)
def few(tmp_path_factory) -> Iterator[None]:
    """The data folder, with no more than the first lines of large files."""
    if "RAZORBENCH_DATA" not in os.environ:
        yield
        return
    whole, some = Path(os.environ["RAZORBENCH_DATA"]), tmp_path_factory.mktemp("data")
    for name in ("hellaswag/hellaswag_val", "winogrande/dev", "winogrande/train_xs", "ifeval/input_data"):
        lines = (whole / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        (some / name).parent.mkdir(exist_ok=True)
        (some / f"{name}.jsonl").write_text("\n".join(lines[:24]), encoding="utf-8")
    for name in ("humaneval", "mmlu", "truthfulqa", "mnist", "fashion_mnist"):
        (some / name).symlink_to(whole / name)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAZORBENCH_DATA", str(some))
        yield


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    return mini_lm(seed=1)


@pytest.fixture(scope="module")
def peer(lm) -> Any:
    return hf(lm, batch=4)


@pytest.fixture(scope="module")
def anatomy() -> LmEval:
    return make("task", "lm-eval/mmlu_anatomy")


def same(policy: CausalLM, peer: Any, name: str, documents: int) -> None:
    """Ours and lm-eval's own loop on its own backend agree on every document."""
    benchmark = make("task", f"lm-eval/{name}")
    ours = benchmark.evaluate(policy, documents)
    ((task, part),) = benchmark.parts.items()
    said = [list(request.resps) for request in part.instances]
    metric, through = benchmark.metric(part)
    logged = [row for row in theirs(benchmark, peer, documents)[task] if row["filter"] == through]
    assert [sample.id for sample in ours] == [str(row["doc_id"]) for row in logged] == [*map(str, range(documents))]
    assert [sample.score for sample in ours] == pytest.approx([float(row[metric]) for row in logged], abs=1e-4)
    far, other = responses(said, [told for row in logged for told in row["resps"]])
    assert far < 1e-4
    assert other == 0


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("name", FAST)
def test_verdicts_likelihoods_and_answers_are_those_of_hf(name, lm, peer):
    same(lm, peer, name, 2 if "truthfulqa" in name else 6)


@needs_data
@pytest.mark.real
@pytest.mark.parametrize("name", ["hellaswag", "mmlu_anatomy?shots=5", "ifeval?chat=1&tokens=16"])
def test_a_real_model_has_the_verdicts_of_hf(name, tmp_path_factory):
    policy = base_policy(BASES["smollm2-135m-q4-v1"], tmp_path_factory.getbasetemp() / "smollm2")
    assert isinstance(policy, CausalLM)
    same(policy, hf(policy), name, 4)


@needs_data
@pytest.mark.parametrize("name", ["hellaswag", "winogrande", "mmlu_anatomy"])
def test_what_is_told_of_a_choice_is_what_was_scored(name, lm):
    """The choice that it is said to have made is the right one where, and only where, it has the point."""
    benchmark = make("task", f"lm-eval/{name}")
    ((_, part),) = benchmark.parts.items()
    for sample, doc in zip(benchmark.evaluate(lm, 8), benchmark.first(*benchmark.docs, 8), strict=True):
        choices, gold = part.doc_to_choice(doc), right(part, doc)
        assert gold is not None
        assert (sample.said == choices[gold]) == bool(sample.score)
        assert sample.asked


def asked(kind: Any, *arguments: Any) -> Instance:
    return Instance(kind, {}, arguments, 0, ("made-up", 0, 1))


def test_whole_texts_and_texts_without_a_context_are_those_of_hf(lm, peer):
    long = "Ada has seven pens and gives three of them to Bo. " * 80
    whole = [asked("loglikelihood_rolling", text) for text in ("Ada.", long, "Bo has nine.")]
    assert len(lm.chat.tokens(long)) > 2 * lm.model.config.max_position_embeddings
    ours, peers = Model(lm).loglikelihood_rolling(whole), peer.loglikelihood_rolling(whole, disable_tqdm=True)
    assert ours == pytest.approx(peers, rel=1e-6, abs=1e-4)
    pairs = [asked("loglikelihood", *pair) for pair in [("", "Ada"), ("Ada ", "has"), (long, " it"), ("Ada", " has")]]
    ours, peers = Model(lm).loglikelihood(pairs, disable_tqdm=True), peer.loglikelihood(pairs, disable_tqdm=True)
    assert [nats for nats, _ in ours] == pytest.approx([nats for nats, _ in peers], abs=1e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in peers]


def test_an_answer_ends_where_the_task_says(lm, peer):
    free = Model(lm).generate_until([asked("generate_until", "Ada has", {"until": [], "max_gen_toks": 24})])[0]
    stop = free[len(free) // 2 :][:2]
    requests = [
        asked("generate_until", text, {"until": [stop], "max_gen_toks": 24, "do_sample": False})
        for text in ("Ada has", "Bo", "How many pens has Ada?")
    ]
    ours = Model(lm).generate_until(requests)
    assert ours == peer.generate_until(requests, disable_tqdm=True)
    assert ours[0] == free.split(stop)[0] != free


def test_a_task_that_samples_is_refused(lm):
    wanted = {"until": [], "do_sample": True, "temperature": 0.7}
    with pytest.raises(Refused, match="samples its answers"):
        Model(lm).generate_until([asked("generate_until", "Ada", wanted)])


def test_what_is_shared_is_read_once(lm, monkeypatch):
    """20 questions behind one header of 100 tokens, 4 options of 3 tokens each: 100 + 20 × (12 + 8) = 500 of 9,120."""
    noise = np.random.default_rng(0)
    monkeypatch.setattr("razorbench.agents.language.likelihood.WORTH", 300)
    header = noise.integers(5, 1000, 96).tolist()
    contexts = [header + noise.integers(5, 1000, 12).tolist() for _ in range(20)]
    pairs = [(context, noise.integers(5, 1000, 3).tolist()) for context in contexts for _ in range(4)]
    read, trunk = [], lm.trunk

    def counting(*, input_ids: torch.Tensor, **how: Any) -> Any:
        read.append(input_ids.numel())
        return trunk(input_ids=input_ids, **how)

    monkeypatch.setattr(CausalLM, "trunk", property(lambda self: counting))
    likelihoods = lm.likelihoods(pairs)
    assert sum(read) == 96 + 20 * (12 + 4 * 2)
    for (context, continuation), (nats, greedy) in zip(pairs, likelihoods, strict=True):
        with torch.no_grad():
            logp = lm.model(input_ids=torch.tensor([context + continuation[:-1]])).logits[0, -3:].log_softmax(-1)
        assert nats == pytest.approx(float(logp.gather(1, torch.tensor(continuation)[:, None]).sum()), abs=1e-4)
        assert greedy == (logp.argmax(-1).tolist() == continuation)


def test_options_of_one_token_share_a_pass(lm, monkeypatch):
    read = []
    trunk = lm.trunk

    def counting(*, input_ids: torch.Tensor, **how: Any) -> Any:
        read.append(input_ids.numel())
        return trunk(input_ids=input_ids, **how)

    monkeypatch.setattr(CausalLM, "trunk", property(lambda self: counting))
    likelihoods = lm.likelihoods([([7, 8, 9], [option]) for option in (20, 21, 22, 23)])
    assert read == [3]
    assert len({nats for nats, _ in likelihoods}) == 4


@needs_data
def test_a_group_is_asked_in_turn_and_its_items_have_names_of_their_own(lm):
    benchmark = make("task", "lm-eval/mmlu_stem")
    samples = benchmark.evaluate(lm, 40)
    names = [str(sample.id).partition("/")[0] for sample in samples]
    assert len({sample.id for sample in samples}) == 40
    assert len(benchmark.parts) == 19
    assert names[:19] == names[19:38] == list(benchmark.parts)
    assert all(sample.metrics["nats"] < 0 for sample in samples)


@needs_data
def test_a_digest_pins_documents_rules_and_versions(anatomy, monkeypatch):
    usual = anatomy.digest(8)
    assert usual == make("task", "lm-eval/mmlu_anatomy").digest(8) != anatomy.digest(9)
    for other in ("?shots=2", "?chat=1", "?metric=acc", "?documents=8"):
        assert make("task", f"lm-eval/mmlu_anatomy{other}").digest(8) != usual
    monkeypatch.setattr("razorbench.tasks.lm_eval.benchmark.version", lambda _: "0.4.14")
    assert anatomy.digest(8) != usual
    monkeypatch.undo()
    part = anatomy.parts["mmlu_anatomy"]
    monkeypatch.setattr(part, "VERSION", 2.0)
    assert anatomy.digest(8) != usual
    monkeypatch.undo()
    monkeypatch.setitem(anatomy.docs, "mmlu_anatomy", [*anatomy.docs["mmlu_anatomy"]][1:])
    assert anatomy.digest(8) != usual


@needs_data
def test_an_id_may_say_how_many_documents_are_asked(lm):
    few = make("task", "lm-eval/mmlu_anatomy?documents=5")
    assert [few.shares(limit) for limit in (None, 9, 3)] == [{"mmlu_anatomy": n} for n in (5, 5, 3)]
    assert [sample.id for sample in few.evaluate(lm)] == [str(at) for at in range(5)]
    with pytest.raises(Refused, match=r"documents=-1.*documents is at least 0"):
        make("task", "lm-eval/mmlu_anatomy?documents=-1")


AMBIGUOUS = "Hallo hi"
"""A text that langdetect holds for English eighteen times of twenty, else for Italian."""


@pytest.mark.slow
@needs_data
def test_a_grader_that_draws_has_one_verdict_for_one_answer():
    """IFEval's check of the language of a reply (lm-eval#4213)."""
    from langdetect import DetectorFactory, detect

    def told(seed: int) -> str:
        DetectorFactory.seed = seed
        return detect(AMBIGUOUS)

    assert len({told(seed) for seed in range(20)}) > 1
    benchmark = make("task", "lm-eval/ifeval")
    part = benchmark.parts["ifeval"]
    for language in sorted({told(seed) for seed in range(20)}):
        doc = {
            "key": 1,
            "prompt": "?",
            "instruction_id_list": ["language:response_language"],
            "kwargs": [{"language": language}],
        }
        verdicts = set()
        for seed in range(20):
            DetectorFactory.seed = seed
            request = replace(asked("generate_until", "?", {}), resps=[AMBIGUOUS], filtered_resps={"none": AMBIGUOUS})
            verdicts.add(verdict("1", part, doc, [request], *benchmark.metric(part)).score)
        assert len(verdicts) == 1


class Whole:
    """A task that scores whole texts, as lm-eval makes one."""

    def get_config(self, name: str) -> str:
        return {"output_type": "loglikelihood_rolling"}[name]

    def doc_to_text(self, doc: Any) -> str:
        return ""

    def process_results(self, doc: Any, said: list[float]) -> dict[str, tuple[float, int]]:
        return {"byte_perplexity": (said[0], 6)}


def test_the_likelihood_of_a_text_is_the_inverse_of_its_perplexity_a_byte():
    request = replace(asked("loglikelihood_rolling", "Gr\u00fc\u00df"), filtered_resps={"none": -6 * np.log(2)})
    assert len("Gr\u00fc\u00df".encode()) == 6
    assert verdict("1", Whole(), {}, [request], "likelihood", "none").score == pytest.approx(0.5)


@needs_data
def test_the_likelihood_of_the_right_choice_is_a_score(lm):
    benchmark = make("task", "lm-eval/hellaswag?metric=likelihood")
    for sample, doc in zip(benchmark.evaluate(lm, 4), benchmark.docs["hellaswag"], strict=False):
        ending = doc["choices"][int(doc["label"])]
        assert sample.score == pytest.approx(np.exp(sample.metrics["nats"] / len(f" {ending}".encode())))
        assert 0 < sample.score < 1
    assert benchmark.digest(4) != make("task", "lm-eval/hellaswag?metric=acc_norm").digest(4)


def test_generators_of_others_go_on_as_before():
    import random

    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    wanted = random.random(), np.random.rand()  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    with seeded(0):
        random.random()
        np.random.rand()  # noqa: NPY002
    assert (random.random(), np.random.rand()) == wanted  # noqa: NPY002


@needs_data
def test_what_cannot_be_graded_is_unscored_and_says_why(anatomy):
    part = deepcopy(anatomy.parts["mmlu_anatomy"])

    def broken(*_: Any) -> None:
        raise LookupError("*****\n  Resource nowhere.\n*****")

    part.process_results = broken
    (doc,) = anatomy.first("mmlu_anatomy", 1)
    said = [(-1.0, False), (-2.0, False), (-0.5, True), (-3.0, False)]
    requests = [replace(asked("loglikelihood", "?", "A"), resps=[told], filtered_resps={"none": told}) for told in said]
    sample = verdict("3", part, doc, requests, "acc", "none")
    assert np.isnan(sample.score)
    assert (sample.asked, sample.said) == (part.doc_to_text(doc), "C")
    assert sample.error == "LookupError: Resource nowhere."


def test_documents_that_cannot_be_had_are_one_sentence_with_its_cure_and_not_a_line_for_each_try(monkeypatch):
    hub, listens = logging.getLogger("huggingface_hub"), BufferingHandler(10)
    monkeypatch.setattr(hub, "handlers", [listens])

    def unreachable(*_: Any, **__: Any) -> None:
        logging.getLogger("huggingface_hub.utils._http").warning("thrown while requesting")
        raise ConnectionError("Couldn't reach 'Rowan/hellaswag' on the Hub")

    monkeypatch.delenv("RAZORBENCH_DATA", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(
        Missing, match=r"cannot be fetched from the hub .*or set RAZORBENCH_DATA to a folder that has it"
    ):
        make("task", "lm-eval/hellaswag")
    assert listens.buffer == []
    with pytest.raises(ConnectionError):
        unreachable()
    assert len(listens.buffer) == 1  # afterwards it may speak again


@pytest.mark.slow
@needs_data
def test_a_track_is_scored_on_them_and_its_base_flips_nothing_against_itself(tmp_path, monkeypatch):
    priors = ("lm-eval/winogrande", "lm-eval/hellaswag", "lm-eval/ifeval?tokens=8")
    track = replace(
        TRACKS["mini-math-v1"], id="harness-v1", priors={"harness": priors}, items=8, drift_items=4, checkpoints=0
    )
    bench = Bench(track, tmp_path)
    assert set(priors) < set(bench.data)
    scored = bench.score(bench.base)
    rows = [row for row in zip(*(scored.samples[name] for name in ("task", "item", "base", "adapted")), strict=True)]
    asked = [row for row in rows if row[0] in priors]
    assert [row[1] for row in asked] == [str(i) for i in range(8)] * 3
    assert [row for row in asked if row[2] != row[3] and row[2] == row[2]] == []
    nats, theirs = next(row.metrics["nats"] for row in scored.scores if row.task == priors[0])
    assert nats is not None
    assert nats == theirs
    monkeypatch.setattr(LmEval, "evaluate", lambda *_: [])
    assert Bench(track, tmp_path).base_answers(priors[0]).score.tolist() == [row[2] for row in asked[:8]]


def test_ids_are_known_by_how_they_begin():
    assert known("task", "lm-eval/anything")
    assert not known("agent", "lm-eval/anything")
    assert not any(id.startswith("lm-eval/") for id in registry.ids("task"))


@needs_data
@pytest.mark.parametrize(
    ("id", "sentence"),
    {
        "hellaswg": "has no task 'hellaswg'; `lm-eval ls tasks` lists",
        "hellaswag?shot=1": "may say shots, chat, metric, tokens",
        "hellaswag?shots=many": "may say shots",
        "hellaswag?metric=f1": "no metric 'f1'; it has acc, acc_norm",
        "hellaswag?shots=5": "has no examples here",
    }.items(),
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(id, sentence, monkeypatch, request):
    if id == "hellaswg":  # the index of all tasks takes ten seconds to read, and family folders have none of that name
        family = __import__("lm_eval.tasks").tasks.TaskManager(include_defaults=False)
        monkeypatch.setattr("razorbench.tasks.lm_eval.benchmark.managed", lambda _: family)
    with pytest.raises(Refused, match=sentence.replace("?", r"\?")):
        make("task", f"lm-eval/{id}").digest(2)


def test_rules_are_read():
    assert Rules.read("shots=5&chat=1&metric=acc,none", "x") == Rules(5, 1, "acc,none")
    assert Rules.read("", "x") == Rules()


def test_the_page_says_the_rules_and_its_ids_are_read():
    page = (Path(__file__).parents[1] / "docs" / "add-a-track.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `\?(\w+)=`", page, re.M) == [*Rules.__dataclass_fields__]
    named = re.findall(r'"lm-eval/\w+\??([^"]*)"', page)
    assert [Rules.read(rules, "x") for rules in named] == [Rules(), Rules(), Rules(5), Rules(chat=1, tokens=512)]


@needs_data
def test_an_agent_that_reads_no_text_is_refused(anatomy):
    with pytest.raises(Refused, match="Mlp is no language model"):
        anatomy.evaluate(make("agent", "mlp-785-v1"), 2)


def test_documents_that_are_nowhere_are_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("RAZORBENCH_DATA", str(tmp_path))
    with pytest.raises(Missing, match=r"dev.jsonl cannot be read .* unset RAZORBENCH_DATA to fetch allenai/winogrande"):
        make("task", "lm-eval/winogrande")


def test_without_the_extra_the_cure_is_told(monkeypatch):
    def lacks(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'lm_eval'", name="lm_eval")

    monkeypatch.setattr("razorbench.harness.core.registry.import_module", lacks)
    with pytest.raises(Missing, match=r"run `pip install 'razorbench\[lm-eval\]'`"):
        make("task", "lm-eval/hellaswag")
    assert extras.EXTRAS["langdetect"] == "lm-eval"

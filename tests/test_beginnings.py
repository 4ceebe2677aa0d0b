"""A text begins with one token that says so or with none, and with the same in training, in answers and in priors."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from tokenizers.processors import TemplateProcessing
from transformers import Qwen2Config, Qwen2ForCausalLM

from razorbench import row
from razorbench.agents.language import policy as language
from razorbench.agents.language.mini_lm import FOLDER, TEMPLATE, mini_lm
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.tasks.lm_eval.model import Model
from tests.conftest import needs_data

BEGIN = "<s>"
KINDS = {
    "no such token": (False, False, False),
    "the tokenizer alone": (True, True, False),
    "the template alone": (True, False, True),
    "both": (True, True, True),
    "neither": (True, False, False),
}
"""Whether the model has such a token, and who writes it: the tokenizer before every text, its chat template."""


@pytest.fixture(params=KINDS.values(), ids=[*KINDS])
def lm(request) -> CausalLM:
    there, tokenizer_writes, template_writes = request.param
    tokenizer = deepcopy(mini_lm().chat.tokenizer)
    if there:
        tokenizer.add_special_tokens({"bos_token": BEGIN})
    if tokenizer_writes:
        begun = TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.bos_token_id)])
        tokenizer.backend_tokenizer.post_processor = begun
        assert tokenizer.encode("a")[0] == tokenizer.bos_token_id
    tokenizer.chat_template = ("{{ bos_token }}" if template_writes else "") + TEMPLATE
    model = Qwen2ForCausalLM(Qwen2Config.from_pretrained(FOLDER, vocab_size=len(tokenizer)))
    return CausalLM(model, tokenizer, limit=4, prompt="Be brief.")


@pytest.fixture
def recorded(lm, monkeypatch) -> Callable[[str], list[Any]]:
    """What a method of the model was asked: its first arguments."""

    def record(name: str) -> list[Any]:
        asked, method = [], getattr(lm, name)
        monkeypatch.setattr(lm, name, lambda first, *rest, **how: asked.append(first) or method(first, *rest, **how))
        return asked

    return record


def begins(lm: CausalLM, tokens: list[int]) -> int:
    """How many of the tokens begin a text."""
    return sum(token == lm.chat.tokenizer.bos_token_id for token in tokens)


def chatted(lm: CausalLM, question: str) -> list[int]:
    """What transformers makes of a question in chat."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    return lm.chat.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def test_answers_training_and_priors_in_chat_begin_alike(lm, recorded, monkeypatch):
    task = make("task", "mini-sorting-v1")
    answered, laid = recorded("decoded"), []
    packed = language.packed
    monkeypatch.setattr(language, "packed", lambda talks, budget: laid.append(talks) or packed(talks, budget))
    episodes = rollout(lm, task, task.instances("test").first(1))
    list(lm.predict(episodes))
    question = row(episodes.turns[0].seen.text, 0)
    wanted = chatted(lm, question)
    assert begins(lm, wanted) == int("bos_token" in lm.chat.tokenizer.chat_template)
    assert answered == [[wanted]]
    assert [talk.opening for talk in laid[0]] == [wanted]

    model = Model(lm, chat=True)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    text = model.apply_chat_template(messages)
    model.generate_until([asked("generate_until", text, {"until": [], "max_gen_toks": 2})])
    assert answered[1:] == [[wanted]]
    scored = recorded("likelihoods")
    model.loglikelihood([asked("loglikelihood", text, "Ada")], disable_tqdm=True)
    ((pair,),) = scored  # lm-eval counts the end of the line as part of what it scores
    assert [*pair[0], *pair[1]] == wanted + lm.chat.tokens("Ada")


def test_texts_without_chat_begin_as_the_tokenizer_begins_them(lm, recorded):
    answered, scored = recorded("decoded"), recorded("likelihoods")
    tokenizer, model = lm.chat.tokenizer, Model(lm)
    texts = ["Ada has", *([f"{BEGIN}Ada has"] if tokenizer.bos_token_id is not None else [])]
    for text in texts:
        model.generate_until([asked("generate_until", text, {"until": [], "max_gen_toks": 2})])
        model.loglikelihood([asked("loglikelihood", text, " it")], disable_tqdm=True)
    plain = tokenizer.encode("Ada has")
    begun = [tokenizer.bos_token_id, *lm.chat.tokens("Ada has")]
    assert [prompt for (prompt,) in answered] == [plain, begun][: len(texts)]
    assert [pair for (pair,) in scored] == [(tokens, lm.chat.tokens(" it")) for tokens in (plain, begun)][: len(texts)]
    assert all(begins(lm, prompt) <= 1 for (prompt,) in answered)


def test_texts_without_a_context_and_whole_ones_have_one_token_before_them(lm, recorded):
    scored, model = recorded("likelihoods"), Model(lm)
    model.loglikelihood([asked("loglikelihood", "", "Ada")], disable_tqdm=True)
    model.loglikelihood_rolling([asked("loglikelihood_rolling", "Ada")])
    before = lm.chat.tokenizer.bos_token_id
    before = lm.chat.tokenizer.eos_token_id if before is None else before
    assert scored == [[([before], lm.chat.tokens("Ada"))]] * 2


@needs_data
def test_a_prior_in_chat_is_asked_as_the_template_writes_it(lm, recorded):
    answered = recorded("decoded")
    benchmark = make("task", "lm-eval/humaneval?chat=1&tokens=1")
    part = benchmark.parts["humaneval"]
    doc = part.eval_docs[0]
    lm.model.config.max_position_embeddings = 4096
    benchmark.evaluate(lm, 1)
    assert answered == [[chatted(lm, part.doc_to_text(doc))]]


def asked(kind: Any, *arguments: Any) -> Instance:
    return Instance(kind, {}, arguments, 0, ("made-up", 0, 1))

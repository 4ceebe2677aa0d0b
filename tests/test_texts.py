"""Likelihoods of published texts: as transformers has them, and what a model loses of them."""

import numpy as np
import pytest
import torch

from razorbench import Refused
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.core.registry import make
from razorbench.harness.measure.evaluation import evaluate
from razorbench.harness.measure.metrics import metric_changes
from razorbench.harness.tracks.bases import base_policy
from razorbench.harness.tracks.catalogue import BASES
from razorbench.tasks.texts import News
from tests.toys import Speller


@pytest.fixture(scope="module")
def news(data) -> News:
    return make("task", "news-text-v1")


@pytest.fixture(scope="module")
def lm(shared_home) -> CausalLM:
    policy = base_policy(BASES["mini-lm-v1"], shared_home)
    assert isinstance(policy, CausalLM)
    return policy


def test_texts_are_english_news_and_their_hash_tells_how_many_count(news):
    assert len(news.texts) == len(set(news.texts)) == 500
    assert news.texts[0].startswith("Title: Up, down and away: NASA")
    assert news.digest(3) == news.digest(3) != news.digest(4)


def test_a_text_has_the_likelihood_that_transformers_has_for_it(news, lm):
    """By the loss of `labels`, which shifts them: token i is foretold by those before it, and not by itself."""
    tokenizer = lm.chat.tokenizer
    for text, sample in zip(news.texts, news.evaluate(lm, 4), strict=False):
        ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer.encode(text, add_special_tokens=False)]])
        assert ids.shape[1] < lm.model.config.max_position_embeddings
        with torch.no_grad():
            loss = float(lm.model(input_ids=ids, labels=ids).loss)
        nats = -loss * (ids.shape[1] - 1)
        assert sample.metrics["nats"] == pytest.approx(nats, rel=1e-4)
        assert sample.score == pytest.approx(np.exp(nats / len(text.encode())), rel=1e-4)


def test_who_tells_no_likelihoods_is_refused(news):
    with pytest.raises(Refused, match="scored by likelihoods, which Speller does not tell; choose a prior that is"):
        news.evaluate(Speller(), 2)


def test_what_is_lost_is_seen_text_by_text_and_a_copy_loses_nothing(news, lm):
    moved = lm.copy()
    with torch.no_grad():
        for weight in moved.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)), alpha=0.02)
    base, copy, adapted = (evaluate(agent, news, items=24) for agent in (lm, lm.copy(), moved))
    assert metric_changes(base, copy) == {"nats": [0.0, 0.0, 0.0]}
    lost, low, high = np.array(metric_changes(base, adapted)["nats"], float)
    assert lost == pytest.approx(np.mean(adapted.metrics["nats"] - base.metrics["nats"]))
    assert low < lost < high < 0
    assert adapted.score.mean() < base.score.mean()

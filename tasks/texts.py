"""Likelihood of English text that others have published: nothing is asked and nothing is answered.

What a model loses of its language shows here in a few forward passes and with little noise, since each text is compared
with itself. It is what peft's benchmark of methods calls forgetting; two ways to get that wrong are told in peft#3419:
to hold a token's logits against the token itself instead of the next one, and to take the model with fresh adapters for
its base. Here likelihoods are those of lm-eval's priors, and the base is a track's own.
"""

import json
import math
from hashlib import blake2b
from importlib.metadata import version

from razorbench import Agent, Card, Refused, Sample
from razorbench.tasks.labels import AGNews


class News:
    """Titles and first sentences of news, each by itself."""

    card = Card(
        asks="Nothing: how likely is each of 500 pieces of news?",
        rule="The probability of a byte of the text, the geometric mean: 2 to the power of −(bits a byte).",
        source=AGNews.card.source,
        licence=AGNews.card.licence,
        chance=0.0,
    )

    def __init__(self) -> None:
        """Reads the texts: the test split of `labels-agnews-v1`, in its order; Missing and Refused as there.

        ModuleNotFoundError without lm-eval, whose model class makes token ids of texts and windows of long ones.
        """
        import razorbench.tasks.lm_eval.model  # noqa: F401

        self.texts: list[str] = AGNews().instances("test").data["text"]

    def count(self, limit: int | None = None) -> int:
        """How many texts are read."""
        return len(self.texts[:limit])

    def digest(self, limit: int | None = None) -> str:
        """Of the texts, and of the version that cuts them into windows."""
        told = [version("lm_eval"), self.texts[:limit]]
        return blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()

    def evaluate(self, agent: Agent, limit: int | None = None) -> list[Sample]:
        """The likelihoods of the first `limit` texts; `nats` is the log-probability of a whole one. Refuses an agent
        that tells none.
        """
        from lm_eval.api.instance import Instance

        from razorbench.tasks.lm_eval.model import Model, Reader

        if not isinstance(agent, Reader):
            raise Refused(
                f"news-text-v1 is scored by likelihoods, which {type(agent).__name__} does not tell; "
                "choose a prior that is answered in words"
            )
        texts = self.texts[:limit]
        asked = [Instance("loglikelihood_rolling", {}, (text,), at) for at, text in enumerate(texts)]
        return [
            Sample(f"test-{at}", math.exp(nats / len(text.encode())), {"nats": nats})
            for at, (text, nats) in enumerate(zip(texts, Model(agent).loglikelihood_rolling(asked), strict=True))
        ]

"""A language agent as a model of lm-eval: texts become token ids as its `hf` backend makes them."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

from lm_eval.api.model import LM, TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from razorbench import Refused

Tokens = list[int]
TOKENS = 256
"""Tokens of an answer, where the task names no number."""
CHECKED = 48
"""Tokens at the end of an answer in which a text that ends it is looked for, once for each that is added."""


@runtime_checkable
class Reader(Protocol):
    """A language agent that tells likelihoods of given texts, and goes on with any."""

    chat: Any
    """Its tokenizer and template (`agents.language.chat.Chat`)."""
    model: Any
    """The transformers model."""

    def likelihoods(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, bool]]:
        """Of each continuation of a context the log-probability, nats, and whether it is the likeliest."""
        ...

    def continued(
        self, prompts: list[Tokens], limit: int, over: Callable[[Tokens], bool] | None = None
    ) -> list[Tokens]:
        """The likeliest tokens after each prompt, up to an end of text, `limit`, or where they are `over`."""
        ...


class Model(TemplateLM):
    """What lm-eval asks, answered by a language agent."""

    def __init__(self, agent: Reader, chat: bool = False):
        """The agent keeps its weights, device and precision; `chat` says that its template writes all that is asked."""
        super().__init__()
        self.agent, self.tokenizer, self.chat = agent, agent.chat.tokenizer, chat
        self.encode = lru_cache(2**14)(self.tokenizer.encode)

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """The token that stands before a text without a context."""
        return self.eot_token_id if self.tokenizer.bos_token_id is None else self.tokenizer.bos_token_id

    @property
    def max_length(self) -> int:
        """Tokens that the model reads at most."""
        return self.agent.model.config.max_position_embeddings

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> Tokens:
        """Token ids of a text; the tokenizer puts before it what it does, unless it is there or the flag says no.

        What a template has written has its beginning from the template alone, as where the model was trained: a second
        token that begins a text costs a model points, and so does a first that it never saw there.
        """
        begun = self.chat or string.startswith(self.tokenizer.decode(self.prefix_token_id))
        special = not begun if add_special_tokens is None else add_special_tokens
        return self.encode(string, add_special_tokens=special)

    def _loglikelihood_tokens(self, requests: list[tuple[Any, Tokens, Tokens]], **_: Any) -> list[tuple[float, bool]]:
        return self.agent.likelihoods([(context, continuation) for _, context, continuation in requests])

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-probability of whole texts, each in windows of what the model reads at most.

        The first begins with one `prefix_token_id`. `hf` puts another one behind it, and scores that, where the
        tokenizer begins every text with one.
        """
        windows, owner = [], []
        for number, request in enumerate(requests):
            tokens = self.tok_encode(request.args[0], add_special_tokens=False)
            some = get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, context_len=1)
            windows += [make_disjoint_window(window) for window in some]
            owner += [number] * (len(windows) - len(owner))
        total = [0.0] * len(requests)
        for number, (nats, _) in zip(owner, self.agent.likelihoods(windows), strict=True):
            total[number] += nats
        return total

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy answers, each up to the first text of the task's `until`. Refuses a task that samples."""
        said, end = [""] * len(requests), self.tokenizer.decode(self.eot_token_id)
        for numbers, until, limit in alike(requests, end):
            room = self.max_length - limit
            if room <= 0:
                raise Refused(
                    f"answers of {limit} tokens leave no room for a prompt: the model reads {self.max_length}; "
                    "say fewer with ?tokens="
                )
            prompts = [self.tok_encode(requests[number].args[0])[-room:] for number in numbers]
            codes = self.agent.continued(prompts, limit, self.over(until))
            for number, code in zip(numbers, codes, strict=True):
                text = self.tokenizer.decode(code, skip_special_tokens=True)
                said[number] = postprocess_generated_text(text, until, None)
        return said

    @property
    def prompt(self) -> str:
        """What the system says first in a chat."""
        return self.agent.chat.prompt

    def over(self, until: list[str]) -> Callable[[Tokens], bool] | None:
        """Whether the last tokens of an answer hold a text that ends it; None where only an end of text does."""
        texts = [text for text in until if text and text != self.tokenizer.decode(self.eot_token_id)]
        if not texts:
            return None
        return lambda code: any(text in self.tokenizer.decode(code[-CHECKED:]) for text in texts)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as the model's template writes it; where the last message is begun, up to its end."""
        return self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval names its own cache by, which is not used."""
        return ""


@runtime_checkable
class Speaker(Protocol):
    """A language agent that answers and tells no likelihoods (`agents.endpoint.Endpoint`)."""

    prompt: str
    """What the system says first in a chat."""

    def chats(self, talks: Sequence[Any], limit: int, *, until: Sequence[str] = ()) -> Sequence[Any]:
        """What is said next in each conversation, `text` and `error`."""
        ...

    def texts(self, texts: Sequence[str], limit: int, until: Sequence[str] = ()) -> Sequence[Any]:
        """How each text goes on, `text` and `error`."""
        ...


class Spoken(LM):
    """What lm-eval asks, answered by an agent that only speaks."""

    def __init__(self, agent: Speaker, chat: bool = False):
        """`chat` says that requests are conversations, which the agent writes in its own template."""
        super().__init__()
        self.agent, self.chat, self.prompt = agent, chat, ""  # it says its own prompt

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Refuses: there are none."""
        raise Refused(
            f"{requests[0].task_name} is scored by likelihoods, which {type(self.agent).__name__} does not tell; "
            "choose tasks that are answered in words, as lm-eval/ifeval?chat=1"
        )

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Refuses: there are none."""
        self.loglikelihood(requests)
        raise AssertionError

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy answers, each up to the first text of `until`; empty where the model cannot read what is asked."""
        said = [""] * len(requests)
        for numbers, until, limit in alike(requests, None):
            asked = [requests[number].args[0] for number in numbers]
            if self.chat:
                answers = self.agent.chats([json.loads(each) for each in asked], limit, until=until)
            else:
                answers = self.agent.texts(asked, limit, until)
            for number, answer in zip(numbers, answers, strict=True):
                said[number] = postprocess_generated_text(answer.text, until, None)
        return said

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as JSON. Refuses one whose last message is begun: a server begins its own."""
        if not add_generation_prompt:
            raise Refused(f"{type(self.agent).__name__} cannot go on with an answer that is begun; choose another task")
        return json.dumps(chat_history)

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval names its own cache by, which is not used."""
        return ""


def alike(requests: list[Any], end: str | None) -> Iterator[tuple[list[int], list[str], int]]:
    """Requests for words, by what ends them: their numbers, the texts that do, and the most tokens.

    `end` is how the tokenizer ends a text. Refuses a task that samples.
    """
    groups: dict[str, list[int]] = {}
    for number, request in enumerate(requests):
        groups.setdefault(repr(request.args[1]), []).append(number)
    for numbers in groups.values():
        wanted: dict[str, Any] = dict(normalize_gen_kwargs(requests[numbers[0]].args[1], TOKENS))
        if wanted.get("do_sample") or wanted.get("temperature"):
            raise Refused(f"{requests[numbers[0]].task_name} samples its answers; priors are answered greedily")
        yield numbers, handle_stop_sequences(wanted["until"], eos=end), int(wanted["max_gen_toks"])

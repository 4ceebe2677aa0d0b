"""Conversations as tokens: what a chat template puts around answers, and where an answer ends."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from jinja2 import TemplateError

from razorbench import Refused, Turn, row

PROBES = (
    "How many legs have 12  spiders?",
    "  Is 91 prime?\n",
    "Noch einmal: grüß Gott, 你好 🙂",
    "def f(x):\n\treturn x",
)
"""Texts on which tokenizers are compared."""


class Chat:
    """A tokenizer and its chat template: what stands before, between and after the answers of a conversation."""

    def __init__(self, tokenizer: Any, stops: Iterable[int] = (), prompt: str = ""):
        """`stops` are tokens that end an answer beside the one of the template; `prompt` is what the system says first.

        Where the template has no place for a system (Gemma's refuses one, Phi-3's first left it out), the prompt stands
        before the first question with a blank line between, as in Gemma 3's own template. Refuses a tokenizer whose
        template does not end an answer with a special token.
        """
        self.tokenizer, self.prompt = tokenizer, prompt
        if not tokenizer.chat_template:
            raise Refused(
                "the tokenizer has no chat template; bring a model that is tuned to chat, or put the template that it "
                "was tuned with beside the tokenizer, as chat_template.jinja"
            )
        ending = self.tokens(self.after("user", ""))[:1]
        marked = {
            token for token, added in tokenizer.added_tokens_decoder.items() if added.special
        }  # not all have names
        if not {*ending} & {*tokenizer.all_special_ids, *marked}:
            raise Refused("the chat template ends no answer with a special token; bring a model that is tuned to chat")
        self.stop: int = ending[0]
        self.stops = sorted({self.stop, *stops})
        self.opening = lru_cache(2**16)(self.first)
        self.between = lru_cache(2**16)(lambda role, text: self.tokens(self.after(role, text)))
        self.piece = lru_cache(2**16)(self.inside)

    def render(self, messages: list[dict[str, str]]) -> str:
        """The text of a conversation, up to where the next answer begins; refuses what the template does not take."""
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise Refused(f"the chat template does not take {roles} ({error}); give it a task of other roles") from None

    def first(self, role: str, text: str) -> list[int]:
        """Token ids of a conversation that `role` opens with `text`, up to where the answer begins."""
        system = [{"role": "system", "content": self.prompt}] if self.prompt and self.systemic else []
        before = f"{self.prompt}\n\n" if self.prompt and not system else ""
        return self.tokens(self.render([*system, {"role": role, "content": before + text}]))

    @cached_property
    def systemic(self) -> bool:
        """Whether the template says what a system says."""
        word = "\N{SNOWMAN}system\N{SNOWMAN}"
        try:
            return word in self.render([{"role": "system", "content": word}, {"role": "user", "content": "?"}])
        except Refused:
            return False

    def after(self, role: str, text: str) -> str:
        """What the template puts between an answer and the next one, when `role` says `text` there."""
        answer = "\N{SNOWMAN}answer\N{SNOWMAN}"  # nobody's text
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
        return self.render([*messages, {"role": role, "content": text}]).partition(answer)[2]

    @cached_property
    def probed(self) -> list[list[int]]:
        """Token ids of conversations that tell one tokenizer and template from another."""
        return [self.first("user", text) + self.tokens(self.after("user", text)) for text in PROBES]

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, in which special tokens count as such."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def inside(self, token: int) -> str:
        """The text of a token in the middle of others: some tokenizers drop the space before the first."""
        before = self.tokens("a")[-1:]
        text, lead = (self.tokenizer.decode([*before, *more]) for more in ([token], []))
        return text.removeprefix(lead)

    def talks(self, turns: Sequence[Turn], episodes: int) -> list["Talk"]:
        """Each episode as tokens; it ends with its last answer, or where its next one begins."""
        talks = [Talk([]) for _ in range(episodes)]
        for turn in turns:
            for at, episode in enumerate(turn.rows.tolist()):
                talk, role, text = talks[episode], row(turn.seen.role, at), row(turn.seen.text, at)
                if text is None:
                    raise Refused("a language model was asked without text; give it a task that asks in words")
                if not talk.opening:
                    talk.opening = self.opening(role, text)
                else:
                    between = self.between(role, text)
                    ended = bool(talk.tail) and talk.tail[-1] in self.stops  # else it was cut off: the template ends it
                    talk.say(between[ended:], False)
                if turn.done is not None:
                    talk.say(row(turn.done.code, at), True)
        return talks


@dataclass
class Talk:
    """A conversation as tokens: the first prompt, all that came after, and which of that the policy chose."""

    opening: list[int]
    tail: list[int] = field(default_factory=list)
    chosen: list[bool] = field(default_factory=list)

    def say(self, tokens: Sequence[int], chosen: bool) -> None:
        """Add tokens to the end."""
        self.tail += tokens
        self.chosen += [chosen] * len(tokens)

    def answered(self) -> "Talk":
        """The conversation up to the end of its last answer: without that, the first prompt alone."""
        end = max((at + 1 for at, chosen in enumerate(self.chosen) if chosen), default=0)
        return Talk(self.opening, self.tail[:end], self.chosen[:end])


def stops(model: Any) -> list[int]:
    """The tokens that end an answer by the model's generation config; none, one or several."""
    config = getattr(model, "generation_config", None)
    ends = None if config is None else config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def until(code: Sequence[int], ends: Sequence[int]) -> int:
    """How many tokens there are up to the first of `ends`, that one included; all of them where there is none."""
    return next((at + 1 for at, token in enumerate(code) if token in ends), len(code))

"""A language model behind an OpenAI-compatible server: it answers, and tells no probabilities of its own."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from itertools import repeat
from typing import Any, NamedTuple, NoReturn

import openai

from razorbench import Actions, Asked, Refused, Reply, row

Talk = list[dict[str, str]]
"""Messages with `role` and `content`."""

TRIES = 6
"""How often a request is made again that was not answered, or answered that the server is busy."""
PATIENCE = 600.0
"""Seconds that an answer may take."""
STOPS = 4
"""Texts that end an answer, of which a request names so many at most."""
TOO_LONG = ("context_length_exceeded", "context length", "context window", "too long", "maximum length")
"""One of which a server says of a conversation that the model cannot read; servers have no common word for it."""


class Answer(NamedTuple):
    """To one request."""

    text: str
    finished: bool = True
    """False where it was cut off."""
    error: str | None = None
    """Why the model could not answer: the conversation is longer than it reads."""


class Endpoint:
    """A model that a server names, by `POST /chat/completions` and, for texts that are no chat, `/completions`.

    The server's key is read from OPENAI_API_KEY, where it asks for one. What stands behind address and name is not
    known here: a server may hold other weights tomorrow.
    """

    def __init__(self, url: str, model: str, prompt: str = "", limit: int = 512, at_once: int = 16, seed: int = 0):
        """`prompt` is what the system says first, `limit` tokens an answer has at most, `at_once` requests are open.

        `seed` changes nothing: answers are drawn with the seeds of what is asked.
        """
        self.url, self.model, self.prompt, self.limit, self.at_once = url, model, prompt, limit, at_once

    @property
    def identity(self) -> dict[str, str]:
        """What it is known by."""
        return {"url": self.url, "model": self.model}

    def copy(self) -> NoReturn:
        """Refuses: nobody can adapt here what is behind a server."""
        raise Refused(f"{self.model} answers behind {self.url}, so it can be asked and not adapted; name its weights")

    @cached_property
    def client(self) -> openai.OpenAI:
        """The connection."""
        key = os.environ.get("OPENAI_API_KEY") or "none"
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=TRIES, timeout=PATIENCE)

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """Replies, drawn with a seed of each episode where the server takes one; at temperature 0 the likeliest.

        Refuses where the server does not answer, or not so.
        """
        talks: list[Talk] = [[] for _ in range(len(asked.episodes))]
        for turn in asked.episodes.turns:
            for at, episode in enumerate(turn.rows.tolist()):
                role, text = row(turn.seen.role, at), row(turn.seen.text, at)
                if text is None:
                    raise Refused("a language model was asked without text; give it a task that asks in words")
                talks[episode].append({"role": role, "content": text})
                if turn.done is not None:
                    talks[episode].append({"role": "assistant", "content": str(row(turn.done.value, at))})
        seeds = (asked.uniform(1)[:, 0] * 2**31).astype(int).tolist()
        said = self.chats([talks[i] for i in asked.rows.tolist()], self.limit, temperature, seeds)
        return Actions([Reply(each.text, each.finished) for each in said], error=[each.error for each in said])

    def chats(
        self,
        talks: Sequence[Talk],
        limit: int,
        temperature: float = 0.0,
        seeds: Sequence[int] = (),
        until: Sequence[str] = (),
    ) -> list[Answer]:
        """What the model says next in each conversation, up to a text of `until`, in at most `limit` tokens."""
        system: Talk = [{"role": "system", "content": self.prompt}] if self.prompt else []
        post = partial(self.post, limit, temperature, until)
        return self.together(lambda talk, seed: post(seed, messages=[*system, *talk]), talks, seeds or repeat(0))

    def texts(self, texts: Sequence[str], limit: int, until: Sequence[str] = ()) -> list[Answer]:
        """How each text goes on, likeliest first."""
        return self.together(lambda text: self.post(limit, 0.0, until, 0, prompt=text), texts)

    def together(self, ask: Any, *columns: Any) -> list[Answer]:
        """Requests, several at once, in their order. The first that is refused ends them all."""
        pool = ThreadPoolExecutor(self.at_once)
        try:
            return list(pool.map(ask, *columns))
        finally:
            pool.shutdown(cancel_futures=True)

    def post(self, limit: int, temperature: float, until: Sequence[str], seed: int, **asked: Any) -> Answer:
        """One request. Refuses what is no answer, and is not about the length of what was asked."""
        made: Any = self.client.completions if "prompt" in asked else self.client.chat.completions
        told = {"model": self.model, "max_tokens": limit, "temperature": temperature, "seed": seed, **asked}
        try:
            answer = made.create(**told, stop=list(until[:STOPS]) or openai.NOT_GIVEN)
            (choice,) = answer.choices
            text = choice.text if "prompt" in asked else choice.message.content
        except openai.APIConnectionError as error:
            raise Refused(
                f"{self.url} does not answer ({error}); start the server, and the same command goes on"
            ) from None
        except openai.APIStatusError as error:
            said = str(error.message)
            if error.status_code in (400, 413, 422) and any(word in said.lower() for word in TOO_LONG):
                return Answer("", False, f"the model cannot read it: {said}")
            raise Refused(
                f"{self.url} answers {error.status_code} of {self.model}: {said}{cure(error.status_code)}"
            ) from None
        except (TypeError, ValueError, AttributeError) as error:
            raise Refused(f"{self.url} answers otherwise than OpenAI's interface ({error})") from None
        return Answer(text or "", choice.finish_reason == "stop")


def cure(status: int) -> str:
    """What can be done about an answer of that status; empty where nothing is known."""
    return {
        401: "; set OPENAI_API_KEY to a key of it",
        403: "; set OPENAI_API_KEY to a key that may ask it",
        404: "; name the model as GET /models does",
    }.get(status, "")

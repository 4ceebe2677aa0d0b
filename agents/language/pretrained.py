"""A pretrained causal language model, whichever its folder holds."""

from pathlib import Path

from razorbench.agents.language.policy import CausalLM
from razorbench.harness.learn.runtime import AUTO, Runtime


def pretrained(
    seed: int = 0,
    *,
    folder: Path,
    words: Path | None = None,
    prompt: str = "",
    limit: int = 512,
    runtime: Runtime = AUTO,
) -> CausalLM:
    """The chat model in `folder`, as transformers saves one: any of `architecture.ARCHITECTURES`. Nothing is random.

    A reply has at most `limit` tokens; `prompt` is what the system says before a question. The tokenizer is that of the
    folder `words`, where it is not in the model's own.
    """
    return CausalLM.read(folder, words=words, prompt=prompt, limit=limit, runtime=runtime)

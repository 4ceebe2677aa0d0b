"""A pretrained causal language model, whichever its folder holds."""

from pathlib import Path

from razorbench.agents.language.policy import CausalLM
from razorbench.harness.learn.runtime import AUTO, Runtime


def pretrained(seed: int = 0, *, folder: Path, prompt: str = "", limit: int = 512, runtime: Runtime = AUTO) -> CausalLM:
    """The chat model in `folder`, as transformers saves one: any of `architecture.ARCHITECTURES`. Nothing is random.

    A reply has at most `limit` tokens; `prompt` is what the system says before a question.
    """
    return CausalLM.read(folder, prompt=prompt, limit=limit, runtime=runtime)

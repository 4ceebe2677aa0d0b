"""The command that makes demonstrations of what an agent says: razorbench demonstrations."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from razorbench.harness.cli.arguments import HOME, Computed, Home, Json, Name
from razorbench.harness.cli.terminal import bar, command, err, say
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.protocols import Task
from razorbench.harness.learn.runtime import AUTO


def demonstrations(
    task: Name,
    *,
    from_: Annotated[str, tyro.conf.arg(name="from")],
    samples: int = 16,
    temperature: float = 1.0,
    keep: Literal["right", "every-right"] = "right",
    items: int = 0,
    seed: int = 0,
    prompt: str = "",
    limit: int = 0,
    base: str = "",
    out: Path | None = None,
    runtime: Computed = AUTO,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Make demonstrations of a task by rejection sampling: an agent answers, and what is right is kept.

    Killed at any moment, the same command goes on. `razorbench adapt … --style file:F` learns from them.

    Args:
        task: Id of the task; its training questions are asked.
        from_: Who answers: a base's id, a folder of transformers, a checkpoint of a track, OWNER/NAME@COMMIT, or
            http://HOST/v1#MODEL, which needs --base.
        samples: Answers to a prompt, at most.
        temperature: They are drawn at it.
        keep: right stops at the first right answer of a prompt and keeps it; every-right keeps all, each once.
        items: Prompts to ask, the first ones; 0: all.
        seed: Seed of everything random.
        prompt: What the system says first.
        limit: Tokens that an answer has at most; 0: what the agent itself allows.
        base: Under which model distance is measured, named like --from; the agent's own base, if not given.
        out: JSON-lines file to write; a manifest is put beside it.
        runtime: How the model is computed; it changes no result but for rounding.
    """
    from razorbench.harness.core.registry import make
    from razorbench.harness.learn.policy import Policy
    from razorbench.harness.runs.provenance import provenance
    from razorbench.harness.runs.rejection import Sampling, demonstrate
    from razorbench.harness.tracks.bases import policy_digest
    from razorbench.harness.tracks.named import named_policy
    from razorbench.harness.tracks.spec import Conditions

    sampling = Sampling(Conditions(temperature, samples, prompt, limit), keep, items, seed)
    asked = make("task", task)
    if not isinstance(asked, Task):
        raise Refused(f"{task} owns its loop and lists no training questions; name a task that is played")
    agent, base_id = named_policy(from_, home, sampling.conditions.options, runtime)
    if base:
        under, base_id = named_policy(base, home, {"prompt": prompt} if prompt else {}, runtime)
    elif isinstance(agent, Policy):
        under = agent.base()
    else:
        raise Refused(f"{from_} tells no probabilities; name the model under which distance is measured with --base")
    told = {"task": task, "weights": policy_digest(agent), "base": policy_digest(under)}
    file = out or home / "demonstrations" / f"{task}-{told['weights'][:8]}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    with bar("sampling") as progress:
        line = progress.add_task(f"{task}, seed {seed}", total=None)
        made = demonstrate(
            agent,
            under,
            asked,
            sampling,
            file,
            told=told,
            provenance=provenance(agent=from_, base=base_id),
            tell=lambda done, prompts: progress.update(line, completed=done, total=prompts),
        )
    counts = made.made["counts"]
    if counts["unscored"]:
        err.print(f"{counts['unscored']:,} answers could not be scored, and none of them is kept.", highlight=False)
    share = 100 * counts["solved"] / counts["prompts"]
    sentence = (
        f"{file} has {made.lines:,} demonstrations of {counts['solved']:,} of {counts['prompts']:,} prompts "
        f"({share:.3g} %), from {counts['drawn']:,} answers of {from_}: {counts['tokens']:,} tokens, "
        f"{counts['nats_per_token']:.3g} nats a token under {base_id}. Learn from them:"
    )
    say({"file": str(file), "lines": made.lines, "sha256": made.sha256, **counts}, json, sentence)
    if not json:
        command(f"razorbench adapt TRACK --method sft --style file:{file} --out DIR", home)

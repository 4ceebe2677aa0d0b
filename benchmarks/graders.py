"""Our graders beside the scorers that others have published, on replies of a real model.

    python -m benchmarks.graders [--home HOME] [--items N] [--replies FILE] [--show]

SmolLM2-135M answers the first N test questions of each task (`benchmarks.replies`), and every reply is judged by our
task and by each reference (`benchmarks.references`). All judge the same text: that a reply was cut off at the token
limit, which is wrong for us whatever it says, no other scorer knows. The second table tells on which replies two
differ: those of the model by whether they are in the form that the task asks for, those that were made by what was done
to them. What the model said is kept in FILE, and read from there if it exists; `--show` prints each reply on which two
differ. lm-eval's minerva_math is asked only where its own packages are installed.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import references
from benchmarks.references import Scorer
from benchmarks.replies import FORMS, Data, Said, Says, derived, real
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.tracks.bases import base_policy
from razorbench.harness.tracks.catalogue import BASES

BASE = "smollm2-135m-q4-v1"
MATHS = {"math-verify, whole reply": references.math_verify, "MATH's own": references.hendrycks_math}
REFERENCES: dict[str, dict[str, Scorer]] = {
    "gsm8k-v1": MATHS | {"lm-eval's gsm8k, last number": references.gsm8k_flexible},
    "math-v1": MATHS | ({"lm-eval's minerva_math": references.minerva_math} if references.minerva else {}),
    "countdown-3-v1": {"TinyZero": references.tinyzero},
    "sciknoweval-chemistry-v1": {"text between tags": references.tag_split},
    "sciknoweval-chemistry-direct-v1": {"SciKnowEval": references.sciknoweval},
    "toolalpaca-strict-v1": {"the published rule": references.tool_calls},
    "toolalpaca-published-v1": {"the published rule": references.tool_calls},
    "ifeval-v1": {"lm-eval's ifeval": references.ifeval},
}


@dataclass(frozen=True)
class Judged:
    """A reply, and whether it is right by our task and by a reference."""

    said: Said
    ours: bool
    theirs: bool
    formed: bool
    """Whether it is in the form that the task asks for, by our task."""

    @property
    def kind(self) -> str:
        """What it is, in words."""
        if self.said.source == "made":
            return f"made: `{self.said.how}`".replace("\n", "⏎")
        return f"{self.said.source}, {'' if self.formed else 'not '}in the form"


def items(id: str, most: int) -> Sequence[Data]:
    """What a task knows of its first test items; of a puzzle the expert's expression, too."""
    task = make("task", id)
    some = task.instances("test").first(most)
    rows: list[dict[str, Any]] = [{key: column[at] for key, column in some.data.items()} for at in range(len(some))]
    if id.startswith("countdown"):
        done = demonstrations(task, some).turns[0].done
        assert done is not None
        for row, reply in zip(rows, done.value, strict=True):
            row["expression"] = str(reply).removeprefix("<answer>").removesuffix("</answer>")
    return rows


def everything(id: str, said: Sequence[Said], data: Sequence[Data]) -> list[Said]:
    """Real replies to a task, and each once what is made of them."""
    form = "toolalpaca-strict-v1" if id == "toolalpaca-published-v1" else id  # which asks the same
    some = [each for each in said if each.task == form]
    return [*dict.fromkeys([*some, *(more for each in some for more in derived(each, data[each.item]))])]


def judged(id: str, scorer: Scorer, said: Sequence[Said], data: Sequence[Data]) -> list[Judged]:
    """Both verdicts on each reply."""
    task = make("task", id)
    asked = task.instances("test").take(np.array([each.item for each in said]))
    played = rollout(Says([each.text for each in said]), task, asked)
    assert played.outcome is not None
    formed = played.outcome.metrics.get("well_formed", np.ones(len(said)))
    return [
        Judged(each, bool(right), scorer(each.text, data[each.item]), bool(form))
        for each, right, form in zip(said, played.reward, formed, strict=True)
    ]


def line(id: str, name: str, verdicts: Sequence[Judged]) -> str:
    """A row of the first table."""
    cells: list[Any] = [f"`{id}`", name]
    of_the_model = [each for each in verdicts if each.said.source in ("asked", "shown")]
    others = [each for each in verdicts if each.said.source not in ("asked", "shown")]
    for some in (of_the_model, others):
        cells += [len(some), sum(e.ours for e in some), sum(e.theirs for e in some)]
        cells.append(sum(e.ours != e.theirs for e in some))
    known = [each for each in verdicts if each.said.right is not None]
    wrong = [sum(e.ours != e.said.right for e in known), sum(e.theirs != e.said.right for e in known)]
    return f"| {' | '.join(map(str, [*cells, *(wrong if known else ('', ''))]))} |"


def differences(id: str, name: str, verdicts: Sequence[Judged]) -> list[str]:
    """Rows of the second table."""
    counts = Counter((each.kind, each.ours) for each in verdicts if each.ours != each.theirs)
    return [
        f"| `{id}` | {name} | {kind} | {'right' if ours else 'wrong'} | {n} |" for (kind, ours), n in counts.items()
    ]


def kept(path: Path | None, home: Path, most: int) -> list[Said]:
    """What the model said, from a file where there is one; else it is asked, and the file is written."""
    if path and path.exists():
        return [Said(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    policy = base_policy(BASES[BASE], home)
    assert isinstance(policy, CausalLM)
    said = [each for id in FORMS for each in real(policy, id, most)]
    if path:
        path.write_text("".join(json.dumps(asdict(each)) + "\n" for each in said), encoding="utf-8")
    return said


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".razorbench"))
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--replies", type=Path)
    parser.add_argument("--show", action="store_true")
    told = parser.parse_args()
    torch.set_num_threads(1)
    said = kept(told.replies, told.home, told.items)
    cut = sum(not each.finished for each in said)
    print(f"{len(said)} replies of the model, {cut} of them cut off\n")
    columns = (
        "of the model",
        "right by ours",
        "by theirs",
        "differ",
        "made of them",
        *("by ours", "by theirs", "differ"),
    )
    print(f"| task | beside | {' | '.join(columns)} | ours wrong by hand | theirs |\n| --- | --- |{' ---: |' * 10}")
    second, shown = [], []
    for id, scorers in REFERENCES.items():
        data = items(id, told.items)
        some = everything(id, said, data)
        for name, scorer in scorers.items():
            verdicts = judged(id, scorer, some, data)
            print(line(id, name, verdicts), flush=True)
            second += differences(id, name, verdicts)
            shown += [(id, name, each) for each in verdicts if each.ours != each.theirs]
    print("\n| task | beside | reply | by ours | replies |\n| --- | --- | --- | --- | ---: |")
    print("\n".join(second))
    for id, name, each in shown if told.show else ():
        print(f"\n--- {id}, {name}: {each.kind}; by ours {each.ours}\n{each.said.text}")


if __name__ == "__main__":
    main()

"""Make the tokenizer and config.json of mini-lm-v1 from the corpus that its base is pretrained on.

    python -m benchmarks.tokenizer [--out FOLDER]

The files in agents/weights/mini-lm-v1 were made by it; the same corpus gives the same bytes.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from razorbench.agents.language.mini_lm import FOLDER, train_tokenizer
from razorbench.tasks.mini.pretraining import Pretraining

QUESTIONS = 20_000
"""Of the corpus; more change nothing but the time it takes."""


def texts() -> Iterator[str]:
    """Questions, replies in all styles, and the names of who speaks."""
    corpus = Pretraining()
    for id in range(QUESTIONS):
        question = corpus.question(id)
        yield from ("user", question.text, "assistant", question.corpus, *question.replies.values())


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER)
    folder = parser.parse_args().out
    train_tokenizer(texts(), folder)
    print(f"{folder} holds the tokenizer and config.json.")


if __name__ == "__main__":
    main()

"""Text classification as in papers on continual learning: an instruction, a text, and words of which one is the answer.

The five sets are those of O-LoRA (arXiv 2310.14152), thinned out. Another set in this layout is one more class.
"""

from collections.abc import Generator

from razorbench import Asked, Card, Instance, Instances, Observation, Outcome, each
from razorbench.tasks.graders import option
from razorbench.tasks.published import Published, numbered, rows


class Labels:
    """One set: its folder, its instruction, its words, and the sha256 of its splits."""

    folder: str
    instruction: str
    words: tuple[str, ...]
    sha256: tuple[str, str]
    """Of train and of test."""
    styles = ("word",)

    def instances(self, split: str) -> Instances:
        """The published rows, in their order."""
        read = rows(
            Published(
                path=f"labels/{self.folder}/{split}.jsonl",
                origin=f"github.com/cmnfriend/O-LoRA at 07117e1, rows of {self.folder}",
                sha256=self.sha256[split == "test"],
            )
        )
        return Instances(
            numbered(split, len(read)),
            {"text": [row["sentence"].strip() for row in read], "label": [row["label"] for row in read]},
        )

    @each
    def play(self, instance: Instance) -> Generator[Observation, str, Outcome]:
        """Ask, and compare words; well-formed is a reply that is one of them."""
        reply = yield Observation(
            f"{self.instruction} Answer with one of these, and nothing else: {', '.join(self.words)}.\n\n"
            f"{instance.data['text']}"
        )
        said = option(reply, self.words)
        return Outcome(float(said == instance.data["label"]), {"well_formed": float(said is not None)})

    def solve(self, asked: Asked, style: str) -> list[str]:
        """The word alone."""
        return asked.instances.data["label"]

    def guess(self, asked: Asked) -> list[str]:
        """Any word of the set."""
        return [self.words[int(len(self.words) * u)] for u in asked.uniform(1)[:, 0]]


def card(
    asks: str,
    source: str,
    licence: str,
    words: tuple[str, ...],
    example: str,
    rule: str = "A finished reply is the right word, whatever its case, with or without a full stop.",
    chance: float | None = None,
) -> Card:
    """What the cards of all sets share; `chance` is one of the words, unless given."""
    return Card(
        asks=asks,
        rule=rule,
        source=f"{source}, as O-LoRA (arXiv 2310.14152) has it, thinned out",
        licence=licence,
        chance=1 / len(words) if chance is None else chance,
        example=example,
    )


class AGNews(Labels):
    """Topics of news."""

    folder = "agnews"
    instruction = "What is the topic of this piece of news?"
    words = ("World", "Sports", "Business", "Science or Technology")
    sha256 = (
        "5fca6d85d59b8dedea8a405eb656ddf43084dfe2fd786e1f2830a9c07141a997",
        "66a6c2cf31d217a1ee55db7d5f84b4f95176392ad717382d429003ef00d3cc06",
    )
    card = card(
        "Which of four topics has a piece of news?",
        "AG News (Zhang, Zhao and LeCun 2015)",
        "for academic use",
        words,
        "Intel is expected to introduce a chip for a new version of Wi-Fi. … → Science or Technology",
    )


class SST2(Labels):
    """Sentiment of sentences in reviews of films."""

    folder = "sst2"
    instruction = "Is this movie review Good or Bad?"
    words = ("Good", "Bad")
    sha256 = (
        "706942ee02221751602339068edb60476e48f4913b7c056eff13a06c321f7d03",
        "ac7ee07a363d87d4defc9c1147879afff268c03bbd2826d2aa4e058183aa4bb7",
    )
    card = card(
        "Is a sentence of a film review good or bad?",
        "SST-2 (Socher et al. 2013)",
        "none stated",
        words,
        "does n't deserve a passing grade ( even on a curve ) . → Bad",
    )


class Amazon(Labels):
    """Sentiment of reviews, in five steps."""

    folder = "amazon"
    instruction = "What is the sentiment of this review?"
    words = ("very negative", "negative", "neutral", "positive", "very positive")
    sha256 = (
        "0de3baff9816e3521d4988f3eaa3fb2d50aea52c4d2399ce99fed3fe74ec7bc2",
        "7c31582d9f8d88c9fe7cc4d8f715b1092796fe6353bde87003eb3272e900c438",
    )
    card = card(
        "Which of five sentiments has a review of something bought?",
        "Amazon reviews (McAuley and Leskovec 2013)",
        "for research",
        words,
        "The set is cute, but the door was broken on arrival. … → negative",
    )


class RTE(Labels):
    """Entailment."""

    folder = "rte"
    instruction = "Does the first sentence entail the second, or is it a contradiction?"
    words = ("contradiction", "entailment")
    sha256 = (
        "fb08392c98b6b8b4fb77fd751c45a05ef47073a99015f1497be2e17908475f58",
        "119051a2376e6939031ff30ecee6cf5c68ccc0266a07386b8063539cfe3348af",
    )
    card = card(
        "Does one sentence entail another?",
        "RTE (GLUE, arXiv 1804.07461)",
        "none stated",
        words,
        "Mozart was born in Salzburg on Jan. 27, 1756. / Mozart was born in Salzburg. → entailment",
    )


class WiC(Labels):
    """Senses of a word."""

    folder = "wic"
    instruction = "Has the word the same sense in both sentences?"
    words = ("True", "False")
    sha256 = (
        "cd7d6f79a50e96150c98a64af076092ed3d04703760043e8a1d073ddc84f0fe7",
        "53adc03bf66265345b0ef2f02a6f40cfe5660429c6688086bc344a23e5913e41",
    )
    card = card(
        "Has a word the same sense in two sentences?",
        "WiC (arXiv 1808.09121)",
        "CC-BY-NC-4.0",
        words,
        "class: An emerging professional class. / … showed real class. → False",
    )

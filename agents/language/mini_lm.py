"""A Qwen2 of 0.9 million random weights that trains on one CPU core, and how its tokenizer was made."""

from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from razorbench.agents.language.policy import CausalLM
from razorbench.harness.learn.runtime import AUTO, Runtime

FOLDER = Path(__file__).parents[1] / "weights" / "mini-lm-v1"
"""The shipped tokenizer and config.json."""

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML, as Qwen2 writes it, without a system prompt of its own."""


SMALL = Runtime("cpu", "float32", micro_batch=1024)
"""Small micro-batches of like lengths waste little on padding, and stay in a core's cache; a GPU would wait for us."""


def mini_lm(
    seed: int = 0, folder: Path = FOLDER, *, prompt: str = "", limit: int = 96, runtime: Runtime = AUTO
) -> CausalLM:
    """The model that `folder`'s config.json describes, with random weights from `seed` and the folder's tokenizer.

    A reply has at most `limit` tokens; `prompt` is what the system says before a question.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(Qwen2Config.from_pretrained(folder))
    tokenizer = Qwen2Tokenizer.from_pretrained(folder)
    return CausalLM(model, tokenizer, limit=limit, prompt=prompt, runtime=runtime.otherwise(SMALL))


def train_tokenizer(texts: Iterable[str], folder: Path, vocab: int = 1024) -> None:
    """Train a byte-level BPE of `vocab` tokens that cuts as Qwen2's does; write it and config.json to `folder`.

    The same texts in the same order give the same files.
    """
    # A generic fast tokenizer in a Qwen2 folder comes back with other ids; one that was trained from Qwen2's does not.
    blank = Qwen2Tokenizer(eos_token="<|im_end|>", extra_special_tokens=["<|im_start|>"])
    tokenizer = blank.train_new_from_iterator(texts, vocab, show_progress=False)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=352,
        max_position_embeddings=512,
        initializer_range=0.08,  # about 1 / sqrt(width): with the usual 0.02 attention is slow to find its keys
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        dtype="float32",
    )
    config.architectures = ["Qwen2ForCausalLM"]
    config.save_pretrained(folder)

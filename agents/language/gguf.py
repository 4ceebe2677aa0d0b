"""A GGUF file, as llama.cpp runs it, unpacked into the folder that transformers reads."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, PreTrainedTokenizerFast

from razorbench import Refused

TENSORS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
BLOCK = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""What llama.cpp calls the weights of a block, and what transformers does."""
CUTS = {
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
}
"""How texts are cut before merging, by llama.cpp's name of it. The file holds the name alone."""
SPECIAL = 3
"""The type of tokens that no text is cut into."""


def unpack(file: Path, folder: Path) -> None:
    """Write a Llama and its tokenizer into `folder`: bf16 safetensors, config.json, tokenizer.json, chat template.

    Quantised weights are dequantised by gguf's own routines; what quantisation lost stays lost. Refuses what is no
    GGUF, another architecture, and a tokenizer of which we do not know how it cuts.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
        told = {name: field.contents() for name, field in reader.fields.items()}
    except (OSError, ValueError, IndexError) as error:
        raise Refused(f"{file} cannot be read as GGUF ({error}); get it again") from None
    kind, cut = told.get("general.architecture"), told.get("tokenizer.ggml.pre")
    if kind != "llama" or cut not in CUTS:
        raise Refused(
            f"{file} holds a {kind} model whose texts are cut as {cut!r}; only llama models cut as "
            f"{', '.join(CUTS)} can be unpacked: bring the model as a folder of transformers"
        )
    try:
        config = architecture(told, tied=all(tensor.name != "output.weight" for tensor in reader.tensors))
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
        weights, words = dict(named(reader.tensors, heads)), tokenizer(told, CUTS[cut]())
    except KeyError as error:
        raise Refused(
            f"{file} lacks {error}, or has it and we do not know what it is; bring the model as a folder of "
            "transformers"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config.save_pretrained(folder)
    words.save_pretrained(folder, save_jinja_files=False)


def architecture(told: dict[str, Any], tied: bool) -> LlamaConfig:
    """The config that a file's metadata describe."""
    width, heads = told["llama.embedding_length"], told["llama.attention.head_count"]
    epsilon = told["llama.attention.layer_norm_rms_epsilon"]
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=len(told["tokenizer.ggml.tokens"]),
        hidden_size=width,
        intermediate_size=told["llama.feed_forward_length"],
        num_hidden_layers=told["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=told.get("llama.attention.head_count_kv", heads),
        head_dim=told.get("llama.rope.dimension_count", width // heads),
        max_position_embeddings=told["llama.context_length"],
        rms_norm_eps=float(f"{epsilon:.6g}"),  # the file holds it in single precision
        rope_parameters={"rope_type": "default", "rope_theta": told["llama.rope.freq_base"]},
        bos_token_id=told["tokenizer.ggml.bos_token_id"],
        eos_token_id=told["tokenizer.ggml.eos_token_id"],
        pad_token_id=told["tokenizer.ggml.padding_token_id"],
        tie_word_embeddings=tied,
        dtype="bfloat16",
    )


def named(tensors: Iterable[Any], heads: dict[str, int]) -> Iterable[tuple[str, Tensor]]:
    """Weights in bf16 by their names in transformers.

    llama.cpp stores the rows of queries and keys with rotary pairs side by side, transformers half a head apart.
    """
    from gguf.quants import dequantize

    for tensor in tensors:
        weight = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type)))  # [out, in] or [width]
        stem = tensor.name.removesuffix(".weight")
        if block := re.fullmatch(r"blk\.(\d+)\.(\w+)", stem):
            layer, part = block.groups()
            if part in heads:
                pairs = weight.view(heads[part], -1, 2, weight.shape[-1])
                weight = pairs.transpose(1, 2).reshape(weight.shape)
            stem = f"model.layers.{layer}.{BLOCK[part]}"
        else:
            stem = TENSORS[stem]
        yield f"{stem}.weight", weight.to(torch.bfloat16).contiguous()


def tokenizer(told: dict[str, Any], cut: Any) -> PreTrainedTokenizerFast:
    """The byte-level BPE of a file's tokens and merges, with its chat template."""
    words = told["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in told["tokenizer.ggml.merges"]]
    bpe = Tokenizer(models.BPE({word: at for at, word in enumerate(words)}, merges))
    bpe.pre_tokenizer, bpe.decoder = cut, decoders.ByteLevel()
    kinds = zip(words, told["tokenizer.ggml.token_type"], strict=True)
    special = [AddedToken(word, special=True, normalized=False) for word, kind in kinds if kind == SPECIAL]
    bpe.add_special_tokens(special)
    roles = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    ids = {role: told.get(f"tokenizer.ggml.{name}_token_id") for role, name in roles.items()}
    made = PreTrainedTokenizerFast(
        tokenizer_object=bpe, **{role: words[at] for role, at in ids.items() if at is not None}
    )
    made.chat_template = told["tokenizer.chat_template"]
    return made

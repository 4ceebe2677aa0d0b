"""GGUF files are unpacked into the model and the tokenizer that they were made of."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from razorbench import Refused
from razorbench.agents.language.gguf import unpack
from razorbench.agents.language.mini_lm import TEMPLATE
from razorbench.agents.language.pretrained import pretrained

WORDS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(chr(c) for c in range(33, 127)),
    "Ġ",
    "Ċ",
    "Ã",
    "¼",
    "1",
    "12",
]
WORDS = list(dict.fromkeys(WORDS))
MERGES = ["1 2", "t h", "th e", "Ġ the"]
WORDS += ["th", "the", "Ġthe"]
CONFIG = LlamaConfig(
    vocab_size=len(WORDS),
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    rms_norm_eps=1e-5,
    rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
    bos_token_id=1,
    eos_token_id=2,
    tie_word_embeddings=True,
)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return llama()


def llama() -> LlamaForCausalLM:
    """A small Llama of random weights, its norms included."""
    torch.manual_seed(0)
    made = LlamaForCausalLM(CONFIG).eval()
    for name, weight in made.named_parameters():
        torch.nn.init.normal_(weight, 1.0 if "norm" in name else 0.0, 0.2)
    return made


def write(path: Path, model: LlamaForCausalLM, quantise=gguf.GGMLQuantizationType.F32, **changes) -> Path:
    """A GGUF file of the model as llama.cpp's converter writes one: rotary pairs side by side."""
    writer = gguf.GGUFWriter(path, changes.get("arch", "llama"))
    writer.add_context_length(changes.get("reach", CONFIG.max_position_embeddings))
    writer.add_embedding_length(CONFIG.hidden_size)
    writer.add_block_count(CONFIG.num_hidden_layers)
    writer.add_feed_forward_length(CONFIG.intermediate_size)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(CONFIG.rms_norm_eps)
    writer.add_rope_freq_base(5000.0)
    writer.add_rope_dimension_count(CONFIG.hidden_size // CONFIG.num_attention_heads)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(changes.get("pre", "smollm"))
    writer.add_token_list(WORDS)
    writer.add_token_types([3] * 3 + [1] * (len(WORDS) - 3))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    if changes.get("chat", True):
        writer.add_chat_template(TEMPLATE)
    if changes.get("rope"):
        writer.add_tensor("rope_freqs.weight", np.ones(8, np.float32))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, CONFIG.num_hidden_layers)
    for name, weight in model.named_parameters():
        array = weight.detach().numpy()
        for part, heads in (("q_proj", 4), ("k_proj", 2)):
            if part in name:
                array = array.reshape(heads, 2, -1, CONFIG.hidden_size).swapaxes(1, 2).reshape(array.shape)
        stem = names.get_name(name.removesuffix(".weight"))
        kind = quantise if array.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(f"{stem}.weight", gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_weights_come_back_rounded_to_bf16_and_the_config_with_them(model, tmp_path):
    unpack(write(tmp_path / "m.gguf", model), tmp_path / "folder")
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float32)
    expected = {name: weight.bfloat16().float() for name, weight in model.named_parameters()}
    assert {name: bool((weight == expected[name]).all()) for name, weight in read.named_parameters()} == dict.fromkeys(
        expected, True
    )
    ours, theirs = read.config.to_dict(), CONFIG.to_dict()
    same = ("rope_parameters", "rms_norm_eps", "head_dim", "num_key_value_heads", "tie_word_embeddings", "eos_token_id")
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}


def test_quantised_weights_are_as_far_off_as_quantisation_puts_them(model, tmp_path):
    unpack(write(tmp_path / "m.gguf", model, gguf.GGMLQuantizationType.Q8_0), tmp_path / "folder")
    read = dict(AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float32).named_parameters())
    for name, weight in model.named_parameters():
        rows = weight.detach().numpy()
        if rows.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            back = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(rows, kind), kind)).view(weight.shape)
            torch.testing.assert_close(read[name].detach(), back.bfloat16().float(), rtol=0, atol=0)
            assert 0 < float((read[name] - weight).detach().abs().max()) < 0.02


def test_texts_are_cut_digit_by_digit_and_come_back(model, tmp_path):
    unpack(write(tmp_path / "m.gguf", model), tmp_path / "folder")
    policy = pretrained(folder=tmp_path / "folder")
    tokens = policy.chat.tokenizer
    cut = tokens.convert_ids_to_tokens(tokens.encode("the the 12", add_special_tokens=False))
    assert cut == ["the", "Ġthe", "Ġ", "1", "2"]  # no merge of 12, which another way of cutting would make
    for text in ("the  the\n", "x=12;", "<|im_start|>the<|im_end|>", "ü"):
        assert tokens.decode(tokens.encode(text, add_special_tokens=False)) == text
    assert policy.chat.stops == [2]
    assert tokens.encode("the", add_special_tokens=True) == tokens.encode("the", add_special_tokens=False)


def test_what_cannot_be_unpacked_is_refused(model, tmp_path):
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"pre": "llama-bpe"},
            r"holds a llama model whose texts are cut as 'llama-bpe'; only llama models cut as smollm",
        ),
        ({"arch": "qwen2"}, r"holds a qwen2 model"),
        ({"chat": False}, r"m.gguf lacks 'tokenizer.chat_template', or has it and we do not know"),
        ({"rope": True}, r"m.gguf lacks 'rope_freqs', or has it and we do not know what it is; bring the model as a"),
    ]
    for changes, words in cases:
        with pytest.raises(Refused, match=words):
            unpack(write(tmp_path / "m.gguf", model, **changes), tmp_path / "folder")
    (tmp_path / "m.gguf").write_bytes(np.arange(99, dtype=np.uint8).tobytes())
    with pytest.raises(Refused, match=r"m.gguf cannot be read as GGUF \(.*\); get it again"):
        unpack(tmp_path / "m.gguf", tmp_path / "folder")

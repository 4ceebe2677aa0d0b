"""Folders as peft, transformers and trainers leave them, of the shipped language model, and what is right of each.

A form is made by the libraries themselves wherever these can; what is accepted comes with its plain weights.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

LM = Path(__file__).parent.parent / "agents/weights/mini-lm-v1"
ADAPTERS, WEIGHTS, SAID, CONFIG = "adapter_model.safetensors", "model.safetensors", "adapter_config.json", "config.json"
CLAIM = 'track = "mini-tools-v1"\nname = "a form"\nmethod = "sft"\nlicence = "CC0-1.0"\n'
LORA: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class World:
    """A base and two adaptations of it, which most forms are forms of."""

    root: Path

    @cached_property
    def base(self) -> Path:
        """The base's folder, as somebody has it who trains."""
        shutil.copytree(LM, self.root / "base")
        return self.root / "base"

    def model(self) -> Any:
        """The base as transformers reads it."""
        return AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32)

    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return AutoTokenizer.from_pretrained(self.base)

    @cached_property
    def whole(self) -> Tensors:
        """Other weights than the base's, as if they were trained."""
        drawn = torch.Generator().manual_seed(5)
        tensors = load_file(self.base / WEIGHTS)
        return {name: x + 0.1 * x.std() * torch.randn(x.shape, generator=drawn) for name, x in tensors.items()}

    def trained(self) -> Any:
        """A model with them."""
        model = self.model()
        model.load_state_dict(self.whole, strict=False)
        return model

    @cached_property
    def lora(self) -> Path:
        """Adapters on all linear maps, as peft saves them."""
        adapted(self.model(), self.root / "lora")
        return self.root / "lora"

    @cached_property
    def merged(self) -> Tensors:
        """The base with them, as peft merges."""
        return self.sum(self.lora)

    def sum(self, folder: Path, model: Any = None) -> Tensors:
        """What peft makes of the base, or another model, and adapters, by the names of the base's file."""
        tensors = PeftModel.from_pretrained(model or self.model(), folder).merge_and_unload().state_dict()
        return {name: tensors[name].clone() for name in load_file(self.base / WEIGHTS)}


def adapted(model: Any, folder: Path, seed: int = 0, save: Mapping[str, Any] | None = None, **changes: Any) -> Any:
    """Put adapters on a model, as if they were trained, and save them; the model."""
    torch.manual_seed(seed)
    wrapped: Any = get_peft_model(model, LoraConfig(**{**LORA, **changes}))
    nudged(wrapped)
    wrapped.save_pretrained(folder, **(save or {}))
    return wrapped


def nudged(model: Any) -> None:
    """Move whatever is trained a little."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn(weight.shape)


def told(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; `...` removes one."""
    now = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in now.items() if value is not ...}))


def put(at: Path, *names: str, text: str = "{}\n") -> None:
    """Files that hold a text."""
    for name in names:
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_text(text)


# --- forms ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """A form, and the right verdict."""

    make: Callable[[World, Path], Tensors | None]
    """Makes the folder; the plain weights of what is accepted."""
    refused: str = ""
    """A phrase of the sentence that refuses it; empty: it is accepted."""
    score: bool = True
    """Whether `razorbench score`, which looks at weights alone, has the same verdict."""


FORMS: dict[str, Form] = {}


def form(refused: str = "", score: bool = True) -> Callable[[Any], Any]:
    """Add a form by the name of its function."""

    def add(make: Callable[[World, Path], Tensors | None]) -> Callable[[World, Path], Tensors | None]:
        FORMS[make.__name__] = Form(make, refused, score)
        return make

    return add


def of_adapters(name: str, change: Callable[[World, Path], Any], refused: str = "", score: bool = True) -> None:
    """Add a form of the usual adapters."""

    def make(world: World, at: Path) -> Tensors:
        shutil.copytree(world.lora, at)
        change(world, at)
        return world.merged

    FORMS[name] = Form(make, refused, score)


def of_whole(name: str, change: Callable[[World, Path], Any], refused: str = "", score: bool = True) -> None:
    """Add a form of the usual whole weights, saved with config and tokenizer."""

    def make(world: World, at: Path) -> Tensors:
        world.trained().save_pretrained(at)
        world.tokenizer().save_pretrained(at)
        change(world, at)
        return world.whole

    FORMS[name] = Form(make, refused, score)


def by_peft(name: str, refused: str = "", **changes: Any) -> None:
    """Add adapters that peft makes with other settings."""

    def make(world: World, at: Path) -> Tensors | None:
        adapted(world.model(), at, **changes)
        return None if refused else world.sum(at)

    FORMS[name] = Form(make, refused)


def saying(**changes: Any) -> Callable[[World, Path], None]:
    """Other keys in adapter_config.json."""
    return lambda world, at: told(at / SAID, **changes)


def resaved(change: Callable[[Tensors], Tensors]) -> Callable[[World, Path], None]:
    """The tensors of adapters, changed."""

    def make(world: World, at: Path) -> None:
        save_file({k: v.contiguous() for k, v in change(load_file(at / ADAPTERS)).items()}, at / ADAPTERS)

    return make


def lying(*names: str) -> Callable[[World, Path], None]:
    """Files beside."""
    return lambda world, at: put(at, *names)


# Adapters as peft can make them.
by_peft("all linear maps")
by_peft("rslora", use_rslora=True)
by_peft("some layers", layers_to_transform=[0, 2], target_modules=["q_proj", "down_proj"])
by_peft("excluded maps", exclude_modules=["lm_head", "k_proj"])
by_peft("a regular expression", target_modules=r".*\.layers\.(0|1)\..*(q_proj|up_proj)")
by_peft("orthogonal start", init_lora_weights="orthogonal")
CURE = "merge_and_unload().save_pretrained"
by_peft("modules_to_save", CURE, modules_to_save=["embed_tokens", "lm_head"])
by_peft("DoRA", CURE, use_dora=True)
by_peft("rank_pattern", CURE, rank_pattern={"q_proj": 2})
by_peft("alpha_pattern", CURE, alpha_pattern={"q_proj": 64})
by_peft("trained tokens", CURE, trainable_token_indices={"embed_tokens": [1, 2]})
by_peft("LoRA on lm_head", CURE, target_modules=["q_proj", "lm_head"])
by_peft("PiSSA as it is", "which changes the base", init_lora_weights="pissa")
by_peft("biases", "biases stay the base's", bias="lora_only", target_modules=["q_proj"])


@form()
def pissa_converted(world: World, at: Path) -> Tensors:
    model: Any = get_peft_model(world.model(), LoraConfig(**{**LORA, "init_lora_weights": "pissa"}))
    start = at.with_name("start")  # peft makes a module's name of it
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(start)
    model.peft_config["default"].init_lora_weights = "pissa"
    nudged(model)
    model.save_pretrained(at, path_initial_model_for_weight_conversion=str(start))
    return world.sum(at)


@form()
def adapters_of_transformers_itself(world: World, at: Path) -> Tensors:
    model = world.model()
    torch.manual_seed(3)
    model.add_adapter(LoraConfig(**{**LORA, "target_modules": ["q_proj", "v_proj"]}))
    nudged(model)
    model.save_pretrained(at)
    return world.sum(at)


@form()
def untrained_embeddings_beside(world: World, at: Path) -> Tensors:
    adapted(world.model(), at, save={"save_embedding_layers": True})
    assert any("embed_tokens" in name for name in load_file(at / ADAPTERS))
    return world.merged


@form("which is not")
def trained_embeddings_beside(world: World, at: Path) -> None:
    untrained_embeddings_beside(world, at)
    tensors = load_file(at / ADAPTERS)
    name = next(name for name in tensors if name.endswith("embed_tokens.weight"))
    tensors[name][3, 4] += 1
    save_file(tensors, at / ADAPTERS)


@form("cut the vocabulary to the base's 1,024 rows")
def vocabulary_of_adapters_padded(world: World, at: Path) -> None:
    model = world.model()
    model.resize_token_embeddings(1025)
    adapted(model, at)


@form("were trained on")
def lora_on_top_of_sft(world: World, at: Path) -> None:
    sft = at.with_name(f"{at.name}-sft")
    world.trained().save_pretrained(sft)
    adapted(AutoModelForCausalLM.from_pretrained(sft), at)


@form()
def lora_on_a_copy_of_the_base_in_bf16(world: World, at: Path) -> Tensors:
    copy = at.with_name(f"{at.name}-copy")
    world.model().bfloat16().save_pretrained(copy)
    shutil.copytree(world.lora, at)
    told(at / SAID, base_model_name_or_path=str(copy))
    return world.merged


OLD = "auto_mapping base_model_name_or_path bias fan_in_fan_out inference_mode init_lora_weights layers_pattern"
OLD += " layers_to_transform lora_alpha lora_dropout modules_to_save peft_type r revision target_modules task_type"


def as_of_old(world: World, at: Path) -> None:
    now = json.loads((at / SAID).read_text())
    old = {key: now[key] for key in OLD.split()} | {"enable_lora": None, "merge_weights": False}
    (at / SAID).write_text(json.dumps(old))


of_adapters("config of an old peft", as_of_old)
of_adapters("key of a later peft", saying(some_group_size=32), "newer peft")
of_adapters("later peft that writes off", saying(use_something=False, something_config=None))
of_adapters("EVA", saying(init_lora_weights="eva", eva_config={"rho": 2.0, "tau": 0.99}))
UNSLOTH = {"base_model_class": "Qwen2ForCausalLM", "parent_library": "transformers.models.qwen2.modeling_qwen2"}
of_adapters(
    "unsloth",
    saying(
        auto_mapping={**UNSLOTH, "unsloth_fixed": True},
        base_model_name_or_path="unsloth/some-model-bnb-4bit",
        revision="unsloth",
    ),
)
of_adapters("adapters in bf16", resaved(lambda tensors: {name: x.bfloat16() for name, x in tensors.items()}))
of_adapters("adapters in f16", resaved(lambda tensors: {name: x.half() for name, x in tensors.items()}))


def half_of(dtype: torch.dtype) -> Callable[[World, Path], Tensors]:
    """The plain weights of adapters that were saved in a coarser type."""

    def make(world: World, at: Path) -> Tensors:
        shutil.copytree(world.lora, at)
        resaved(lambda tensors: {name: x.to(dtype) for name, x in tensors.items()})(world, at)
        return world.sum(at)

    return make


FORMS["adapters in bf16"] = Form(half_of(torch.bfloat16))
FORMS["adapters in f16"] = Form(half_of(torch.float16))
PREFIX = "base_model.model."
of_adapters("state_dict", resaved(lambda ts: {k.replace(".weight", ".default.weight"): v for k, v in ts.items()}),
            "'.default.' in its names")  # fmt: skip
of_adapters("no prefix", resaved(lambda ts: {k.removeprefix(PREFIX): v for k, v in ts.items()}), f"no '{PREFIX}'")
of_adapters("compiled", resaved(lambda ts: {f"_orig_mod.{k}": v for k, v in ts.items()}), "torch.compile puts it there")
of_adapters("ZeRO-3: no tensor", resaved(lambda ts: {}), "zero_to_fp32")
of_adapters("ZeRO-3: shape 0", resaved(lambda ts: {k: v.new_empty(0) for k, v in ts.items()}), "zero_to_fp32")
LAST = "layers.3.mlp.up_proj.lora"
of_adapters("lacks a map", resaved(lambda ts: {k: v for k, v in ts.items() if LAST not in k}), "has no adapters on")
of_adapters("lacks a half", resaved(lambda ts: {k: v for k, v in ts.items() if f"{LAST}_A" not in k}), "its other half")


@form(f"no '{PREFIX}'")
def injected(world: World, at: Path) -> None:
    shutil.copytree(world.lora, at)
    model = inject_adapter_in_model(LoraConfig(**{**LORA, "target_modules": ["q_proj", "v_proj"]}), world.model())
    save_file({k: v.contiguous() for k, v in get_peft_model_state_dict(model).items()}, at / ADAPTERS)


# Whole weights.
@form()
def weights_alone(world: World, at: Path) -> Tensors:
    at.mkdir()
    save_file(world.whole, at / WEIGHTS)
    return world.whole


def renamed(change: Callable[[str], str]) -> Callable[[World, Path], None]:
    """Other names of tensors."""
    return lambda world, at: save_file({change(name): x for name, x in world.whole.items()}, at / WEIGHTS)


of_whole("as transformers saves it", lambda world, at: None)
of_whole("metadata of mlx", lambda world, at: save_file(world.whole, at / WEIGHTS, {"format": "mlx"}))
HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"
of_whole(
    "tied head saved twice",
    lambda world, at: save_file({**world.whole, HEAD: world.whole[EMBED].clone()}, at / WEIGHTS),
)
of_whole(
    "untied head",
    lambda world, at: save_file({**world.whole, HEAD: world.whole[EMBED] + 1}, at / WEIGHTS),
    "lm_head.weight",
)
of_whole("compiled weights", renamed(lambda name: f"_orig_mod.{name}"), "torch.compile puts it there")
of_whole("weights of DDP", renamed(lambda name: f"module.{name}"), "DistributedDataParallel puts it there")
of_whole(
    "weights without a head", renamed(lambda name: name.removeprefix("model.")), "has no 'model.' before its names"
)
of_whole(
    "ZeRO-3: weights of shape 0",
    lambda world, at: save_file({name: x.new_empty(0) for name, x in world.whole.items()}, at / WEIGHTS),
    "zero_to_fp32",
    score=False,
)


@form(CURE)
def adapters_not_merged(world: World, at: Path) -> None:
    model = adapted(world.model(), at)
    (at / SAID).unlink()
    (at / ADAPTERS).unlink()
    save_file(
        {k: v.contiguous() for k, v in model.base_model.model.state_dict().items() if HEAD not in k}, at / WEIGHTS
    )


@form()
def merged_by_peft(world: World, at: Path) -> Tensors:
    PeftModel.from_pretrained(world.model(), world.lora).merge_and_unload().save_pretrained(at)
    return world.merged


@form()
def in_shards(world: World, at: Path) -> Tensors:
    world.trained().save_pretrained(at, max_shard_size="1MB")
    assert not (at / WEIGHTS).exists()
    return world.whole


def in_half(dtype: torch.dtype) -> Callable[[World, Path], Tensors]:
    """Whole weights in a coarser type, or some of them; the plain ones are what that is in F32."""

    def make(world: World, at: Path) -> Tensors:
        world.trained().to(dtype).save_pretrained(at)
        return {name: x.to(dtype).float() for name, x in world.whole.items()}

    return make


FORMS["weights in bf16"] = Form(in_half(torch.bfloat16))
FORMS["weights in f16"] = Form(in_half(torch.float16))


@form()
def weights_of_two_types(world: World, at: Path) -> Tensors:
    mixed = {name: x if "norm" in name else x.bfloat16() for name, x in world.whole.items()}
    at.mkdir()
    save_file(mixed, at / WEIGHTS)
    return {name: x.float() for name, x in mixed.items()}


@form("cut the vocabulary to the base's 1,024 rows", score=False)
def vocabulary_padded(world: World, at: Path) -> None:
    model, tokenizer = world.trained(), world.tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    model.resize_token_embeddings(1088)
    model.save_pretrained(at)
    tokenizer.save_pretrained(at)


@form()
def vocabulary_cut_back(world: World, at: Path) -> Tensors:
    model = world.trained()
    model.resize_token_embeddings(1088)
    model.resize_token_embeddings(1024)
    model.save_pretrained(at)
    return world.whole


# Configs, tokenizers, templates.
ROPE4 = {"rope_parameters": ..., "rope_theta": 10000.0, "rope_scaling": None}


def configured(**changes: Any) -> Callable[[World, Path], None]:
    """Other keys in config.json."""
    return lambda world, at: told(at / CONFIG, **changes)


of_whole("config of transformers 4", configured(**ROPE4, dtype=..., torch_dtype="bfloat16", layer_types=...))
of_whole("another RoPE of 4", configured(**{**ROPE4, "rope_theta": 1e6}), "rope_parameters")
of_whole("scaled RoPE of 4", configured(**{**ROPE4, "rope_scaling": {"type": "linear", "factor": 4.0}}), "rope_param")
of_whole("another RoPE of 5", configured(rope_parameters={"rope_type": "default", "rope_theta": 1e6}), "rope_param")
of_whole("pad, bos and eos by hand", configured(pad_token_id=1, bos_token_id=1, eos_token_id=[0, 1]))


def padded_with_eos(world: World, at: Path) -> None:
    tokenizer = world.tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(at)


of_whole("padded with eos", padded_with_eos)
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}"
    "{% endif %}{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
JINJA = "chat_template.jinja"
of_whole("generation marked in the template", lambda world, at: (at / JINJA).write_text(TEMPLATE))
of_whole(
    "generation marked in another template",
    lambda world, at: (at / JINJA).write_text(TEMPLATE.replace("assistant\\n", "assistant \\n")),
    "renders another prompt",
    score=False,
)


def several_templates(world: World, at: Path) -> None:
    (at / JINJA).unlink(missing_ok=True)
    own = world.tokenizer().chat_template
    templates = [{"name": "rag", "template": "x"}, {"name": "default", "template": own}]
    told(at / "tokenizer_config.json", chat_template=templates)


of_whole("several templates", several_templates)


def from_windows(world: World, at: Path) -> None:
    """The template with a line break in it, as it was written there."""
    own = world.tokenizer().chat_template.replace("{% for", "{#- one -#}\r\n{%- for", 1)
    (at / JINJA).write_bytes(b"\xef\xbb\xbf" + own.encode())


of_whole("template from Windows", from_windows)
BOM = b"\xef\xbb\xbf"
of_adapters("BOM in JSON", lambda world, at: (at / SAID).write_bytes(BOM + (at / SAID).read_bytes()))
of_adapters("BOM in TOML", lambda world, at: (at / "submission.toml").write_bytes(BOM + CLAIM.encode()))
of_adapters(
    "CRLF in TOML", lambda world, at: (at / "submission.toml").write_bytes(CLAIM.replace("\n", "\r\n").encode())
)
of_adapters(
    "UTF-16 in TOML",
    lambda world, at: (at / "submission.toml").write_bytes(CLAIM.encode("utf-16")),
    "write it as UTF-8",
    score=False,
)


def hashed(world: World, at: Path) -> None:
    (at / "submission.toml").write_text(f'{CLAIM}[[data]]\nname = "train"\nfingerprints = "train.hashes"\n')
    (at / "train.hashes").write_bytes(b"".join(b"%064x\r\n" % i for i in range(40_000)))


of_adapters("CRLF in fingerprints", hashed)

# What lies beside.
STATE = ("optimizer.pt", "scheduler.pt", "trainer_state.json", "training_args.bin")


def a_trainer_s(world: World, at: Path) -> None:
    """As TRL leaves it, with two GPUs, a reference and a log for TensorBoard."""
    put(at, *STATE, "rng_state_0.pth", "rng_state_1.pth", "runs/Nov28_12-00-00_host/events.out.tfevents.1", "README.md")
    for name in ("checkpoint-30", "checkpoint-4", "ref"):
        shutil.copytree(world.lora, at / name)


of_adapters("TRL", a_trainer_s)
FACTORY = "all_results.json train_results.json trainer_log.jsonl training_loss.png latest zero_to_fp32.py"
of_adapters("LLaMA-Factory with DeepSpeed", lying(*STATE, *FACTORY.split(), "global_step60/mp_rank_00_model_states.pt"))
of_adapters("ms-swift", lying("additional_config.json", "args.json", "logging.jsonl", "images/train_loss.png"))
of_adapters("FSDP", lying(*STATE, "pytorch_model_fsdp_0/__0_0.distcp", "optimizer_0/__0_0.distcp", "optimizer.bin"))
of_adapters("Finder", lying(".DS_Store", "._adapter_config.json"))
of_adapters("git clone", lying(".git/config", ".gitattributes", ".gitignore"))
of_adapters("notebook", lying("__pycache__/adapt.cpython-311.pyc", ".ipynb_checkpoints/README-checkpoint.md"))
of_adapters("hf download", lying(".cache/huggingface/.gitignore", ".gitattributes", "LICENSE.txt", "NOTICE.md"))
of_adapters("name with a space", lying("README (1).md"), "rename it", score=False)
of_adapters("two kinds", lambda world, at: save_file(world.whole, at / WEIGHTS), "holds both")
of_adapters("another adapter in a folder", lambda world, at: shutil.copytree(world.lora, at / "style"),
            "submit FOLDER/style", score=False)  # fmt: skip


def moved(to: str) -> Callable[[World, Path], None]:
    """All of it in a folder below."""

    def make(world: World, at: Path) -> None:
        below = at.with_name(f"{at.name}-below")
        at.rename(below)
        at.mkdir()
        below.rename(at / to)

    return make


of_adapters("the only adapter in a folder", moved("tools"), "submit FOLDER/tools", score=False)
of_adapters("the only weights in a checkpoint", moved("checkpoint-9"), "'checkpoint-9' does: submit that", score=False)


def linked(world: World, at: Path) -> None:
    """As `snapshot_download()` returns it: links into a store."""
    blobs = at.with_name(f"{at.name}-blobs")
    at.rename(blobs)
    at.mkdir()
    for path in blobs.iterdir():
        (at / path.name).symlink_to(path)


of_adapters("snapshot of links", linked, "cp -rL FOLDER COPY", score=False)


def pickled(world: World, at: Path) -> None:
    torch.save(load_file(at / ADAPTERS), at / "adapter_model.bin")
    (at / ADAPTERS).unlink()


of_adapters("pickle", pickled, "save the weights as safetensors")

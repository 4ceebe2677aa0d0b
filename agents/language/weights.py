"""What policies of one transformers model share: weights, adapters beside them, files, parts in several processes."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy, deepcopy
from pathlib import Path
from typing import Any, Self, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from razorbench import Refused
from razorbench.agents.language.lora import PROJECTIONS, Lora
from razorbench.harness.learn.policy import read_weights
from razorbench.harness.learn.runtime import Runtime
from razorbench.harness.learn.saved import (
    ADAPTER,
    ADAPTER_CONFIG,
    ADAPTERS,
    MERGED,
    adapted_maps,
    prefixed,
    read_description,
    repeated,
)
from razorbench.harness.learn.shards import placed


class OneModel:
    """The weights of a policy: those of `model`, or adapters on its decoder. What it sees and says is left to the class
    that names its `decoder`.
    """

    decoder: str
    """The layers and what is before them, without a head, by its name in the model."""
    samplers: tuple[str, ...] = ("own",)
    """Who may draw its answers."""
    model: Any
    unused: frozenset[str] = frozenset()
    """Weights that belong to the model's files and with which nothing is computed: they are never trained."""

    def __init__(self, model: Any, runtime: Runtime):
        """A model, to be computed as a resolved runtime says. Refuses a sampler that is not for such a model."""
        if runtime.sampler not in self.samplers:
            raise Refused(f"{type(self).__name__} answers by its own loop alone; leave out --sampler {runtime.sampler}")
        self.runtime = runtime
        self.model = model.eval().to(runtime.device)
        self.shards: list[Any] = []
        """The parts whose weights are put together at once, where they are shared out: the layers, and all else."""
        for part in model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0  # nothing random: recomputing works in training mode alone, and changes no number
        self.reference: Self | None = None
        self.lora: Lora | None = None

    @contextmanager
    def recomputing(self) -> Iterator[None]:
        """Drops activations until the backward pass, where the runtime says so and gradients are wanted.

        Transformers does that in training mode alone, which changes nothing else here: no model has dropout.
        """
        self.model.train(self.runtime.checkpointing and torch.is_grad_enabled())
        try:
            yield
        finally:
            self.model.eval()

    # --- weights that are shared out

    def layers(self) -> Iterable[nn.Module]:
        """The parts whose weights are together while each is computed."""
        return self.model.get_submodule(self.decoder).layers

    def share_out(self, mesh: DeviceMesh) -> None:
        """Keep a part of each weight from now on; those of a layer are together while it is computed (FSDP2)."""
        from torch.distributed.fsdp import fully_shard

        self.shards = [fully_shard(layer, mesh=mesh) for layer in self.layers()]
        self.shards.append(fully_shard(self.model, mesh=mesh, reshard_after_forward=False))  # the head comes after it
        for part in self.shards:  # sums of gradients, not means
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Within it all weights are here. All processes must come here."""
        for part in self.shards:
            part.unshard()
            part.set_reshard_after_forward(False, recurse=False)
        try:
            yield
        finally:
            for part in self.shards:
                part.reshard()
                part.set_reshard_after_forward(part is not self.model, recurse=False)

    # --- weights

    def parameters(self) -> Iterator[nn.Parameter]:
        """All weights, or the adapters where there are any."""
        return (parameter for parameter in self.model.parameters() if parameter.requires_grad)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The same with their names."""
        return ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)

    def matrices(self) -> Iterator[nn.Parameter]:
        """The projections of the decoder layers, adapters included, which Muon may train."""
        named = self.model.get_submodule(self.decoder).layers.named_parameters()
        return (parameter for _, parameter in named if parameter.ndim == 2 and parameter.requires_grad)

    def base(self) -> Self:
        """The policy that `copy` was first called on."""
        return self.reference or self

    def copy(self) -> Self:
        """The same weights, trained apart, and with the same base; frozen weights are shared."""
        return self.twin(parameter for parameter in self.model.parameters() if not parameter.requires_grad)

    def twin(self, shared: Iterable[nn.Parameter]) -> Self:
        """A copy that reads the memory of the weights `shared`, which are frozen in it, and owns the others."""
        memo = {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in shared}
        twin = copy(self)
        twin.model, twin.shards, twin.reference = deepcopy(self.model, memo), [], self.base()
        return twin

    def thaw(self) -> None:
        """Train all weights that anything is computed with."""
        for name, weight in self.model.named_parameters():
            weight.requires_grad_(name not in self.unused)

    def low_rank(self, rank: int, alpha: float | None = None) -> Self:
        """A policy that trains adapters of `rank` on all projections of the decoder, scaled by alpha / rank (LoRA,
        arXiv 2106.09685).

        It starts as this policy, shares its weights and has the same base. Alpha is twice the rank unless given.
        Refuses a policy that has adapters already.
        """
        if self.lora:
            raise Refused(f"this policy has adapters of rank {self.lora.rank} already; put new ones on its base")
        twin = self.twin(self.model.parameters())
        named = self.model.get_submodule(self.decoder).named_modules(prefix=self.decoder)
        maps = (name for name, _ in named if name.rpartition(".")[2] in PROJECTIONS)
        twin.attach(Lora(rank, 2.0 * rank if alpha is None else alpha, tuple(sorted(maps))))
        return twin

    def attach(self, lora: Lora) -> None:
        """Freeze all weights and put fresh adapters on some maps; what they add is 0 until they are trained."""
        from peft import LoraConfig, inject_adapter_in_model  # only who wants adapters waits for it

        modules, alpha = list(lora.modules), cast(int, lora.alpha)  # peft takes any number and says int
        config = LoraConfig(r=lora.rank, lora_alpha=alpha, target_modules=modules, use_rslora=lora.rslora)
        self.model.requires_grad_(False)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            inject_adapter_in_model(config, self.model)
        self.model.eval()
        self.lora = lora

    @torch.no_grad()
    def merged(self, dtype: torch.dtype = torch.float32) -> Self:
        """A policy without adapters whose weights are these with what the adapters add; itself where it has none.

        The sums are in float32, and then rounded to `dtype`.
        """
        if not self.lora:
            return self
        twin = self.twin(())
        for name in self.lora.modules:
            adapted: Any = twin.model.get_submodule(name)
            linear = adapted.get_base_layer()
            whole = linear.weight.float() + adapted.get_delta_weight("default").float()
            linear.weight = nn.Parameter(whole.to(dtype).to(linear.weight.dtype))
            twin.model.set_submodule(name, linear)
        twin.thaw()
        twin.lora = None
        return twin

    # --- files

    def weights(self) -> dict[str, Tensor]:
        """What is saved, by its names in the model, or of adapters those of adapter_model.safetensors."""
        if self.lora:
            named = self.named_parameters()
            return {f"base_model.model.{name.replace('.default.', '.')}": p.detach() for name, p in named}
        return {name: p.detach() for name, p in self.model.named_parameters()}  # tied weights have one name

    def filed(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The model's weights as its files name them, where these have other names."""
        return dict(weights)

    def unfiled(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a file of the model holds, by the model's own names."""
        return dict(tensors)

    def unfiled_adapters(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a file holds, with its adapters on the model's own maps."""
        return dict(tensors)

    def save(self, path: Path) -> None:
        """Write the weights as safetensors, or the adapters alone, with their description beside them."""
        weights = self.weights() if self.lora else self.filed(self.weights())
        save_file({name: x.contiguous() for name, x in weights.items()}, path, {"format": "pt"})
        if self.lora:
            self.lora.write(path)

    def load(self, path: Path) -> None:
        """Take over weights, or adapters as peft saves them; refuses a file that does not hold exactly this model's."""
        tensors = read_weights(path)
        if not all(x.isfinite().all() for x in tensors.values()):
            raise Refused(f"{path} holds weights that are not finite; bring a checkpoint that has not diverged")
        lora = None
        if path.name == ADAPTERS or any(".lora_" in name for name in tensors):
            lora, tensors = self.read_adapters(path, tensors)
        if self.lora and lora != self.lora:
            theirs = f"adapters of rank {lora.rank} on {len(lora.modules)} maps" if lora else "no adapters"
            raise Refused(f"{path} holds {theirs} and this policy has others; bring weights of its kind")
        expected = self.expected(lora)
        if not lora:
            tensors = untied(tensors, expected)
        if wrong := misfit(shapes(tensors), expected):
            kind = "adapters" if lora else "weights"
            why = prefixed(tensors.keys(), expected.keys()) if not lora else ""
            raise Refused(
                f"{path} {why}"
                if why
                else f"{path} does not hold this model's {kind}: {wrong}; bring {kind} of that model"
            )
        if lora and not self.lora:
            self.attach(lora)
        if not lora:
            tensors = self.unfiled(tensors)
        for name, x in self.weights().items():
            if name not in self.unused:
                x.copy_(placed(tensors[name], x))

    def read_adapters(self, path: Path, tensors: Mapping[str, Tensor]) -> tuple[Lora, dict[str, Tensor]]:
        """Adapters in a file, as adapter_config.json beside it describes them, on the model's own maps.

        Refuses what is no plain LoRA of the base, or not all of one.
        """
        told = read_description(path.with_name(ADAPTER_CONFIG))
        base = self.base()
        named = {name: x.detach() for name, x in base.weights().items()}
        filed = base.filed({name: torch.empty(x.shape, device="meta") for name, x in named.items()})
        _, copies = adapted_maps(shapes(tensors), told, shapes(filed), str(path))
        for name, other in copies.items():
            if not torch.equal(tensors[name], named[other].cpu().to(tensors[name].dtype)):
                raise Refused(f"{path} has {name}, which is not the base's {other}: {MERGED}")
        own = self.unfiled_adapters({name: x for name, x in tensors.items() if name not in copies})
        modules = {match[1] for name in own if (match := ADAPTER.fullmatch(name))}
        return Lora(told.rank, told.alpha, tuple(sorted(modules)), told.rslora), own

    def expected(self, lora: Lora | None) -> dict[str, torch.Size]:
        """Names and shapes of what a file should hold: adapters as they are described, or all weights."""
        if lora:
            return shapes(self.weights()) if self.lora else lora.shapes(self.model)
        return shapes(self.filed(self.weights()))


def untied(tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Weights without a head that repeats the embedding, where the model has them as one."""
    return {
        name: x
        for name, x in tensors.items()
        if not ((other := repeated(name, expected)) in tensors and torch.equal(x, tensors[other]))
    }


def shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """The shapes of named tensors."""
    return {name: x.shape for name, x in weights.items()}


def misfit(there: Mapping[str, torch.Size], expected: Mapping[str, torch.Size]) -> str:
    """The first difference between two sets of named shapes, in words; empty where there is none."""
    for name in sorted({*there, *expected}):
        if there.get(name) != expected.get(name):
            shapes = (str(list(shapes[name])) if name in shapes else "missing" for shapes in (there, expected))
            return "{} is {}, expected {}".format(name, *shapes)
    return ""

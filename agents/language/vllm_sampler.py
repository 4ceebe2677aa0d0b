"""Replies drawn by vLLM, with a policy's weights as they are now and with the episodes' own random numbers.

vLLM computes logits; a logits processor of ours, `inversion`, draws from them as our own loop does: by inverting the
distribution function, with the number that an episode has for this token. So it does not matter who samples, but for
rounding: answers do not depend on companions, base and adapted share their random numbers, a run resumes exactly.
"""

import gc
import logging
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical

from razorbench import MachineFailed, Refused
from razorbench.agents.language import architecture
from razorbench.agents.language.chat import PROBES
from razorbench.harness.learn.policy import draw, drawn_with
from razorbench.harness.learn.saved import ADAPTERS

VARIABLES = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process, where the weights are
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the other one takes other logits processors, and needs Triton
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_SGL_KERNEL": "0",  # it packs weights when it starts, and reads the packed ones ever after
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""What vLLM is told by the environment, unless the user has told it otherwise. It looks when it is imported."""
SLOTS = {"cpu": 2**15, "cuda": 2**17}
"""Tokens whose keys vLLM may keep at once; what does not fit waits. One sequence may have half as many."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of adapters that vLLM makes room for."""
ROUNDING = {"float32": 1e-3, "bfloat16": 0.3}
"""How far apart the logits of some texts' tokens may be in vLLM and here (root mean square), when both have the same
weights. It bounds four times what is found at the start, which is far less in float32."""
MOVED = 1e-3
"""Weights that move these logits by more (root mean square) move some bit of them in vLLM, too."""
LONG, DRAWN = 300, 16
"""Tokens of the texts that are compared, and of what is drawn behind them."""

Request = tuple[list[float], float, list[int]]
"""What a row of logits is drawn with: the numbers of its request, its temperature, its tokens so far."""


@cache
def inversion() -> type:
    """A logits processor that leaves of each row of logits one: see `inverted`. vLLM takes the likeliest, which is it,
    and tells its logit.
    """
    processors: Any = import_module("vllm.v1.sample.logits_processor")

    class Inversion(processors.LogitsProcessor):
        def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool):
            self.requests: dict[int, Request] = {}

        def is_argmax_invariant(self) -> bool:
            return False

        def update_state(self, batch_update: Any) -> None:
            processors.process_dict_updates(self.requests, batch_update, begun)

        def apply(self, logits: Tensor) -> Tensor:
            return inverted(logits, self.requests)

    return Inversion


def inverted(logits: Tensor, requests: Mapping[int, Request]) -> Tensor:
    """`logits` [n, V] with one left in each row that has a request: of the token that its next number draws, with the
    log-probability it was drawn with in the place of its logit. In place.
    """
    by_temperature: dict[float, list[tuple[int, float]]] = defaultdict(list)
    for row, (numbers, temperature, said) in requests.items():
        if row < len(logits):
            by_temperature[temperature].append((row, numbers[min(len(said), len(numbers) - 1)]))
    for temperature, drawing in by_temperature.items():
        rows = torch.tensor([row for row, _ in drawing], device=logits.device)
        u = np.array([number for _, number in drawing])[:, None]
        dist = Categorical(logits=logits[rows][:, None].float(), validate_args=False)  # [n, 1]
        code = draw(dist, u, temperature)
        nats = drawn_with(dist, code, temperature)
        logits[rows] = -math.inf
        logits[rows, code[:, 0]] = nats[:, 0].to(logits)
    return logits


def begun(params: Any, prompt: Any, said: list[int]) -> Request | None:
    """The state of a new request; None where vLLM draws by itself."""
    told = params.extra_args or {}
    return (told["numbers"], told["temperature"], said) if "numbers" in told else None


@dataclass(frozen=True)
class Probe:
    """What vLLM says of some texts, and what the policy says whose weights it has: the logits of their tokens, and the
    log-probabilities of the last `DRAWN` tokens, which vLLM has drawn.
    """

    there: Tensor
    here: Tensor

    @property
    def distance(self) -> float:
        """Root mean square of the differences of those or these, whichever is larger."""
        away = self.there - self.here
        return max(rms(away[:-DRAWN]), rms(away[-DRAWN:]))


class VllmSampler:
    """The vLLM of this process, started when it is first asked. It draws for any policy, with the weights of whoever
    asks: adapters by request, whole weights by loading them anew; for a model of another shape it is started again.

    After weights have been exchanged its logits of some texts are compared with the policy's own.
    Weights that have not arrived, or not all of them, end the run (`MachineFailed`): vLLM is known to answer from keys
    of weights before (vllm#42125), and one way of loading adapters to leave out a map (unsloth-zoo#941).
    """

    def __init__(self) -> None:
        """Nothing is started yet. Raises ModuleNotFoundError where there is no vLLM."""
        os.environ.update({name: value for name, value in VARIABLES.items() if name not in os.environ})
        self.vllm: Any = import_module("vllm")
        logging.getLogger("vllm").setLevel(logging.ERROR)
        self.engine: Any = None
        self.folder = TemporaryDirectory(prefix="razorbench-vllm-")
        self.shape: dict[str, Any] = {}
        """Of the models that it is started for."""
        self.rank = 0
        self.reach = 0
        """Tokens of a sequence, at most."""
        self.whole: tuple[int, ...] = ()
        """What marks the whole weights that it has."""
        self.adapters: tuple[int, ...] = ()
        """What marks the adapters that it has."""
        self.request: Any = None
        self.versions = 0
        self.floor: float | None = None
        """The distance when it had its first weights."""
        self.probe: Probe | None = None

    def decoded(
        self,
        policy: Any,
        prompts: list[list[int]],
        u: np.ndarray,
        temperature: float,
        ends: Sequence[int],
        over: Callable[[list[int]], bool] | None = None,
    ) -> tuple[list[list[int]], list[list[float]]]:
        """What follows each prompt, drawn with `u` [n, limit] and the weights of `policy` as they are: token ids and
        the log-probabilities that they were drawn with; as `decoding.decoded` does it.

        Nothing follows a prompt that leaves no room for it. Raises MachineFailed where vLLM has other weights, and
        Refused for a sequence that it has no room for.
        """
        request = self.hold(policy)
        reach, limit = architecture.reach(policy.model.config), u.shape[1]
        if self.reach < (most := max((min(reach, len(p) + limit) for p in prompts if len(p) < reach), default=0)):
            raise Refused(f"vLLM has room for {self.reach:,} tokens a sequence, not {most:,}; leave out --sampler vllm")
        fit = [i for i, prompt in enumerate(prompts) if len(prompt) < reach]
        asked = []
        for i in fit:
            drawn = {"extra_args": {"numbers": u[i].tolist(), "temperature": temperature}, "logprobs": 0}
            asked.append((prompts[i], min(limit, reach - len(prompts[i])), drawn))
        codes: list[list[int]] = [[]] * len(prompts)
        nats: list[list[float]] = [[]] * len(prompts)
        for i, output in zip(fit, self.asked(asked, list(ends), request, over), strict=True):
            said = [*steps(output.outputs[0])]
            codes[i], nats[i] = [token for token, _ in said], [step[token].logprob for token, step in said]
        return codes, nats

    # --- weights

    def hold(self, policy: Any) -> Any:
        """Have the weights of a policy; what a request has to name for its adapters, None where it has none."""
        whole = policy.base() if policy.lora else policy
        self.start(whole, policy.lora.rank if policy.lora else 0)
        if (mark := marked(whole.weights().values())) != self.whole:
            tensors = list(whole.filed(whole.weights()).items())
            self.engine.apply_model(lambda model: model.load_weights(iter(tensors)))
            self.engine.reset_prefix_cache()
            self.check(whole, None)
            self.whole = mark
        if not policy.lora:
            return None
        if (mark := marked(policy.weights().values())) != self.adapters:
            self.renew(policy)
            self.check(policy, self.request)
            self.adapters = mark
        return self.request

    def renew(self, policy: Any) -> None:
        """Give vLLM the adapters of a policy, under a name that it has not heard: it takes what it knows for known."""
        if self.request:
            self.engine.llm_engine.remove_lora(self.request.lora_int_id)
        self.versions += 1
        with TemporaryDirectory(dir=self.folder.name) as folder:
            policy.save(Path(folder) / ADAPTERS)
            lora = import_module("vllm.lora.request").LoRARequest
            self.request = lora(f"version-{self.versions}", self.versions, folder)
            self.engine.llm_engine.add_lora(self.request)

    def start(self, policy: Any, rank: int) -> None:
        """Start vLLM for models like that of a policy and adapters up to some rank; again, where it has no room.

        Refused where that would be a second one of several processes: it would take the first's ways of talking along.
        """
        config, runtime = policy.model.config, policy.runtime
        shape = {**config.to_dict(), "_name_or_path": "", "dtype": runtime.dtype, "device": runtime.device}
        if self.engine and rank <= self.rank and shape == self.shape:
            return
        several = {"distributed_executor_backend": "external_launcher"} if "WORLD_SIZE" in os.environ else {}
        if self.engine and several:
            raise Refused("each of several processes has one vLLM, and two are asked for; leave out --sampler vllm")
        self.stop()
        kind = runtime.device.partition(":")[0]
        if kind == "cpu":  # oneDNN packs weights when it starts, and reads the packed ones ever after
            setattr(import_module("vllm._custom_ops"), "_supports_onednn", False)  # noqa: B010
        config.save_pretrained(self.folder.name)
        self.reach = min(architecture.reach(config), SLOTS[kind] // 2)
        self.rank = next(room for room in RANKS if room >= rank) if rank else 0
        lora = {"enable_lora": True, "max_lora_rank": self.rank, "max_loras": 1} if rank else {}
        self.engine = self.vllm.LLM(
            model=self.folder.name,
            skip_tokenizer_init=True,
            load_format="dummy",  # the policy's own weights come next
            dtype=runtime.dtype,
            max_model_len=self.reach,
            enforce_eager=kind == "cpu",
            gpu_memory_utilization=0.05,  # vLLM asks for so much to be free; what it takes is said by the next
            kv_cache_memory_bytes=SLOTS[kind] * architecture.key_bytes(config, getattr(torch, runtime.dtype).itemsize),
            async_scheduling=False,
            generation_config="vllm",
            logits_processors=[inversion()],
            logprobs_mode="processed_logits",
            **lora,
            **several,
        )
        self.shape, self.whole, self.adapters, self.request, self.floor, self.probe = shape, (), (), None, None, None

    def stop(self) -> None:
        """End vLLM, where it runs, and give its memory back."""
        if self.engine:
            core, self.engine = self.engine.llm_engine.engine_core, None
            core.shutdown()
            gc.collect()

    # --- weights that did not arrive

    def check(self, policy: Any, request: Any) -> None:
        """Compare what vLLM and a policy say of some texts, after weights have been exchanged."""
        probed, before = self.probed(policy, request), self.probe
        floor = probed.distance if self.floor is None else self.floor
        most = min(max(4 * floor, 1e-4), ROUNDING[policy.runtime.dtype])
        still = before is not None and torch.equal(before.there, probed.there)
        if probed.distance > most or (before and still and rms(probed.here - before.here) > MOVED):
            self.whole, self.adapters, self.probe = (), (), None  # whoever asks again gets no answer either
            raise MachineFailed(
                f"vLLM does not have the weights that are trained: its logits of some texts are off by "
                f"{probed.distance:.2g}, where rounding explains {most:.2g}"
                f"{', and just as it did before they were exchanged' if still else ''}; leave out --sampler vllm"
            )
        self.floor, self.probe = floor, probed

    def probed(self, policy: Any, request: Any) -> Probe:
        """What both say of some texts. First comes what may be answered from keys that vLLM has kept; what it says of
        every token never is.
        """
        ids = texts(policy)
        draws = {"extra_args": {"numbers": [0.5] * DRAWN, "temperature": 1.0}, "logprobs": 0}
        drawn = list(steps(self.asked([(ids, DRAWN, draws)], [], request)[0].outputs[0]))
        rated = self.asked([(ids, 1, {"prompt_logprobs": 0})], [], request)[0].prompt_logprobs
        told = [rated[i][ids[i]].logprob for i in range(1, len(ids))]  # logits: so `logprobs_mode` has it for prompts
        told += [step[token].logprob for token, step in drawn]
        said = ids + [token for token, _ in drawn]
        logits = policy.logits(said[:-1])  # [T, V]
        here = torch.cat([logits[:-DRAWN], logits[-DRAWN:].log_softmax(-1)])
        code = torch.tensor(said[1:], device=here.device)
        return Probe(torch.tensor(told), here.gather(-1, code[:, None])[:, 0].cpu())

    # --- requests

    def asked(
        self,
        asked: Sequence[tuple[list[int], int, dict[str, Any]]],
        ends: list[int],
        request: Any,
        over: Callable[[list[int]], bool] | None = None,
    ) -> list[Any]:
        """What vLLM returns of each prompt of token ids, with room for some tokens and with further parameters.

        A completion ends with one of the tokens `ends`, or when its tokens so far are `over`.
        """
        params: Any = import_module("vllm.sampling_params")
        kind = params.RequestOutputKind.CUMULATIVE if over else params.RequestOutputKind.FINAL_ONLY
        same = {"temperature": 0.0, "stop_token_ids": ends, "ignore_eos": True, "detokenize": False}
        engine, done = self.engine.llm_engine, {}
        for i, (prompt, room, more) in enumerate(asked):
            how = params.SamplingParams(max_tokens=room, output_kind=kind, **same, **more)
            engine.add_request(str(i), {"prompt_token_ids": prompt}, how, lora_request=request)
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.finished:
                    done[output.request_id] = output
                elif over and over(list(output.outputs[0].token_ids)):
                    done[output.request_id] = output
                    engine.abort_request([output.request_id])
        return [done[str(i)] for i in range(len(asked))]


@cache
def vllm_sampler() -> VllmSampler:
    """The sampler of this process, which has room for one: vLLM keeps much of its state in modules."""
    return VllmSampler()


def steps(output: Any) -> Iterator[tuple[int, Any]]:
    """Each token of a completion, and what was told of it."""
    return zip(output.token_ids, output.logprobs, strict=True)


def marked(weights: Iterable[Tensor]) -> tuple[int, ...]:
    """What tells weights from those of another step: the sum of each tensor's bits, as integers of 32 bits."""
    sums = [x.detach().contiguous().view(torch.int32).sum(dtype=torch.int64) for x in weights]
    return tuple(torch.stack(sums).tolist())


def texts(policy: Any) -> list[int]:
    """Token ids of some texts, over and over: at least two blocks of keys, which vLLM keeps by the block."""
    ids = [token for text in PROBES for token in policy.chat.tokens(text)]
    length = min(LONG, architecture.reach(policy.model.config) - DRAWN)
    return (ids * (length // len(ids) + 1))[:length]


def rms(x: Tensor) -> float:
    """Root mean square."""
    return float(x.double().square().mean().sqrt())

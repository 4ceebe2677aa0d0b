"""Adapters merged into the weights: the same but for rounding, told once beside what was scored."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import PeftModel

from razorbench.agents.language.policy import CausalLM
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn import checkpoint
from razorbench.harness.measure.drift import divergence
from razorbench.harness.measure.merging import apart, merging
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.run import Spec, adapt_into, score_folder
from razorbench.harness.tracks.catalogue import TRACKS
from tests.test_architectures import made
from tests.test_causal_lm import Chatter
from tests.toys import Spell, table


@pytest.fixture(scope="module", params=["qwen2", "phi3"])
def adapted(request) -> CausalLM:
    """A tiny model with adapters that change what it says."""
    policy = made(request.param)
    policy.model.float()
    policy = policy.low_rank(2)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=noise)
    return policy


def test_merged_weights_are_those_of_peft(adapted, tmp_path):
    merged = adapted.merged()
    adapted.save(tmp_path / "adapter_model.safetensors")
    base = adapted.base().copy()
    theirs = PeftModel.from_pretrained(base.model, str(tmp_path)).merge_and_unload()  # type: ignore[operator]
    ours = dict(merged.model.named_parameters())
    for name, weight in theirs.named_parameters():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=1e-6)
    assert merged.lora is None


def test_the_adapted_policy_and_its_base_stay_as_they_were(adapted):
    before = {name: x.clone() for name, x in adapted.model.state_dict().items()}
    merged = adapted.merged(torch.bfloat16)
    assert all(torch.equal(x, before[name]) for name, x in adapted.model.state_dict().items())
    assert not {p.data_ptr() for p in merged.parameters()} & {p.data_ptr() for p in adapted.model.parameters()}
    assert adapted.base().merged() is adapted.base()


def test_only_what_has_adapters_is_rounded(adapted):
    merged, whole = (
        dict(adapted.merged(torch.bfloat16).model.named_parameters()),
        dict(adapted.merged().model.named_parameters()),
    )
    rounded = {name for name in whole if not torch.equal(whole[name], merged[name])}
    assert rounded == {f"{name}.weight" for name in adapted.lora.modules}
    for name in rounded:
        assert torch.equal(merged[name], whole[name].to(torch.bfloat16).float())


def test_float32_changes_nothing_but_rounding_and_bfloat16_does(adapted):
    task = Chatter()
    exact, coarse = merging(adapted, task, task.instances("train"))
    assert (exact.dtype, coarse.dtype) == ("float32", "bfloat16")
    assert exact.nats < 1e-6 < 1e-5 < coarse.nats
    assert exact.episodes == coarse.episodes == 12
    drawn = rollout(adapted, task, task.instances("train"), temperature=0.0)
    again = divergence(adapted, adapted.merged(torch.bfloat16), drawn).nats.double().mean()
    assert coarse.nats == pytest.approx(float(again))


def test_a_greedy_answer_is_another_one_where_an_element_is(adapted):
    task, base = Chatter(), adapted.base()
    mine, theirs = (rollout(each, task, task.instances("train"), temperature=0.0) for each in (adapted, base))
    differ = [[a.code for a in mine[i].actions] != [b.code for b in theirs[i].actions] for i in range(len(mine))]
    assert sum(differ) > 0
    assert apart(adapted, base, mine)[1] == pytest.approx(np.mean(differ))
    assert apart(adapted, adapted.copy(), mine) == (0.0, 0.0)


def test_what_has_no_adapters_is_not_measured():
    assert merging(table(), Spell(), Spell().instances("test")) == []
    assert merging(made("qwen2"), Chatter(), Chatter().instances("train")) == []


@pytest.mark.slow(seconds=20)
def test_a_record_of_adapters_says_what_merging_changes(tmp_path, razorbench):
    track = replace(TRACKS["mini-math-v1"], id="short-v1", items=8, drift_items=8, checkpoint_items=8)
    bench = Bench(track, tmp_path / "home")
    for rank in (2, 0):
        spec = Spec("sft", replace(track.settings, steps=2, batch=4, warmup=0, lora=rank, lr=1e-2))
        adapt_into(tmp_path / f"rank-{rank}", bench, spec)
        record, _ = score_folder(bench, checkpoint.read(tmp_path / f"rank-{rank}"), tmp_path / "home")
        assert ("merged" in record.provenance) == (rank > 0)
        if rank:
            exact, coarse = record.provenance["merged"]
            assert (exact["dtype"], exact["episodes"], coarse["dtype"]) == ("float32", 8, "bfloat16")
            assert exact["nats"] < coarse["nats"]
            razorbench("rebuild", "--home", tmp_path / "home")
            shown = razorbench("show", record.id, "--home", tmp_path / "home").out
            assert "merged in bfloat16: " in shown
            assert "of 8 greedy answers" in shown

"""The paper's own tracks: what its table 2 says, and a run of the same shape with a tiny Qwen2 in the place of 3 B."""

from dataclasses import replace

import pytest

from razorbench.agents.language.mini_lm import mini_lm
from razorbench.harness.core.registry import known
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.run import Spec, run
from razorbench.harness.runs.sweep import plan
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.harness.tracks.origins import Folder, Hub, content_digest
from razorbench.harness.tracks.spec import Base, Track
from razorbench.harness.tracks.suites import SUITES

QWEN = [id for id in TRACKS if id.startswith("qwen")]


@pytest.fixture(params=QWEN)
def track(request: pytest.FixtureRequest) -> Track:
    return TRACKS[request.param]


def test_settings_are_those_of_table_2(track):
    settings = track.settings
    assert len(QWEN) == 3
    assert isinstance(track.base.origin, Hub)
    assert track.base.origin.hub == "Qwen/Qwen2.5-3B-Instruct"
    assert (settings.optimizer, settings.schedule) == ("adamw", "constant")
    assert (settings.weight_decay, settings.max_grad_norm) == (0.0, 1.0)
    assert (settings.batch, settings.group, settings.kl, settings.iterations, settings.lora) == (8, 64, 0.0, 1, 0)
    assert set(track.demo["dr-grpo"]) == {1e-5, 2e-5, 3e-5, 4e-5, 5e-5}
    assert track.prior_tasks == [*SUITES["paper"]]
    assert all(known("task", id) for id in track.prior_tasks)
    for method, rates in track.demo.items():
        assert len(plan(track, [method], [f"lr={rates[0]}"], [0])) == 1


@pytest.mark.slow
def test_a_tiny_model_takes_the_whole_way(track, data, tmp_path):
    policy = mini_lm(seed=1)
    policy.model.config.max_position_embeddings = 8192
    policy.model.save_pretrained(tmp_path / "tiny")
    policy.chat.tokenizer.save_pretrained(tmp_path / "tiny")
    tiny = replace(
        track,
        id=f"tiny-{track.new}",
        base=Base("tiny-v1", "causal-lm-v1", origin=Folder(str(tmp_path / "tiny"), content_digest(tmp_path / "tiny"))),
        priors={"harness": ("lm-eval/winogrande?shots=0&metric=acc",)},
        conditions=replace(track.conditions, limit=6),
        items=2,
        drift_items=2,
        checkpoints=0,
    )
    for method in tiny.demo:
        (spec,) = plan(tiny, [method], ["lr=1e-5"], [0])
        small = replace(spec.settings, steps=2, warmup=1, batch=2, group=2, examples=4, horizon=6, epochs=1)
        record = run(Bench(tiny, tmp_path / "home"), Spec(spec.method, small, 0), tmp_path / "home")
        assert {score.task for score in record.scores} == {tiny.new, *tiny.prior_tasks}
        assert record.drifts[0].nats is not None

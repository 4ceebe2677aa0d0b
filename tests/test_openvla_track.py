"""The paper's robot track: what its appendix B.2 says, and a run of its shape with a tiny OpenVLA and a stand-in."""

from dataclasses import replace

import pytest

from razorbench.harness.core.registry import make
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.run import Spec, run
from razorbench.harness.runs.sweep import plan
from razorbench.harness.tracks.catalogue import BASES, TRACKS
from razorbench.harness.tracks.origins import Hub
from tests.simpler_stand_in import installed

TRACK = TRACKS["openvla-7b-coke-can-v1"]


def test_settings_are_those_of_appendix_b_2():
    settings = TRACK.settings
    assert isinstance(TRACK.base.origin, Hub)
    assert TRACK.base.origin == BASES["openvla-7b-v1"].origin
    assert TRACK.base.options == {"unnorm_key": "fractal20220817_data"}
    assert (settings.batch, settings.group, settings.warmup) == (100, 5, 10)  # 500 trajectories an iteration
    assert (settings.kl, settings.weight_decay, settings.max_grad_norm) == (0.0, 0.0, 1.0)
    assert (settings.optimizer, settings.schedule, settings.lora) == ("adamw", "constant", 0)
    assert all(set(rates) == {1e-6, 3e-6, 5e-6, 7e-6, 9e-6, 1e-5, 3e-5} for rates in TRACK.demo.values())
    new = make("task", TRACK.new)
    assert (len(new.instances("train")), len(new.instances("test")), TRACK.items) == (100, 100, 100)
    assert sorted(make("task", id).row.words for id in TRACK.prior_tasks) == sorted(
        f"{verb} {which} drawer" for verb in ("open", "close") for which in ("top", "middle", "bottom")
    )
    assert {make("task", id).row.spoken for id in TRACK.tasks} == {"openx"}
    for method, rates in TRACK.demo.items():
        assert len(plan(TRACK, [method], [f"lr={rates[0]}"], [0])) == 1


@pytest.mark.long
def test_a_tiny_model_takes_the_whole_way(tmp_path, monkeypatch):
    monkeypatch.setenv("RAZORBENCH_SIMPLER_PYTHON", installed(tmp_path))
    tiny = replace(
        TRACK,
        id="tiny-coke-can-v1",
        base=BASES["tiny-openvla-v1"],
        priors={"drawers": ("simpler-close-top-drawer-openx-v1",)},
        workers={"simpler-*": replace(TRACK.workers["simpler-*"], lanes=2)},
        items=2,
        drift_items=2,
        checkpoints=0,
    )
    for method in tiny.demo:
        (spec,) = plan(tiny, [method], ["lr=1e-5"], [0])
        small = replace(spec.settings, steps=1, warmup=1, batch=1, group=2, examples=1, epochs=1)
        record = run(Bench(tiny, tmp_path / "home"), Spec(spec.method, small, 0), tmp_path / "home")
        assert {score.task for score in record.scores} == {tiny.new, *tiny.prior_tasks}
        assert record.drifts[0].nats is not None
        assert all(score.metrics.keys() >= {"success_once", "success_at_end"} for score in record.scores)

"""The paper's own tracks: what its table 2 says, and a run of the same shape with a tiny Qwen2 in the place of 3 B."""

from collections import Counter
from dataclasses import replace

import pytest
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from benchmarks.doors import SHAPE
from razorbench.agents.language.mini_lm import FOLDER, mini_lm
from razorbench.harness.cli import scoring
from razorbench.harness.core.registry import known, make
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.loop import total_steps
from razorbench.harness.learn.runtime import AUTO
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.run import Spec, run
from razorbench.harness.runs.sweep import plan, preset
from razorbench.harness.tracks.bases import shaped
from razorbench.harness.tracks.catalogue import BASES, GROUPS, TRACKS, find_tracks
from razorbench.harness.tracks.origins import Folder, Hub, content_digest
from razorbench.harness.tracks.spec import Base, Track
from razorbench.harness.tracks.suites import SUITES

QWEN = [id for id in TRACKS if id.startswith("qwen2.5-3b")]
SIZES = {
    "qwen2.5-3b-instruct-v1": (SHAPE, 3_085_938_688),
    "qwen2.5-7b-instruct-v1": (
        {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
            "tie_word_embeddings": False,
        },
        7_615_616_512,
    ),
    "qwen2.5-14b-instruct-v1": (
        {
            "hidden_size": 5120,
            "intermediate_size": 13824,
            "num_hidden_layers": 48,
            "num_attention_heads": 40,
            "num_key_value_heads": 8,
            "vocab_size": 152064,
            "tie_word_embeddings": False,
        },
        14_770_033_664,
    ),
}
"""What the config.json of each base says, at its commit, and the weights that its model card counts."""


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


def test_the_paper_is_its_table_2_run_by_run(track, data):
    """Ten runs of RL; and of SFT every point of the table once, where an epoch has steps for it."""
    specs, there = preset(track, "paper", [], [], [0]), len(track.task(track.new).instances("train"))
    points = Counter(
        (spec.method, s.lr, s.schedule, s.epochs, s.batch, s.iterations) for spec in specs for s in [spec.settings]
    )
    assert max(points.values()) == 1
    rl = {("dr-grpo", n * 1e-5, "constant", track.settings.epochs, 8, m) for n in (1, 2, 3, 4, 5) for m in (1, 2)}
    sft = {
        ("sft", n * 1e-5, schedule, epochs, batch, 1)
        for n in (1, 3, 5, 7, 9)
        for schedule in ("constant", "cosine")
        for epochs in ([2] if "tools" in track.id else [1, 2])
        for batch in ([16] if "tools" in track.id else [16, 32, 64, 128])
    }
    near = {(method, round(lr, 9), *more) for method, lr, *more in points}
    assert near == {(method, round(lr, 9), *more) for method, lr, *more in rl | sft}
    assert all(spec.settings.warmup <= total_steps(spec.settings, there) for spec in specs)


def test_figure_8_is_three_sizes_by_one_name():
    """One track at three sizes, with SFT's grid; only the base differs."""
    three = find_tracks("qwen2.5-scaling-v1")
    assert [track.base.id for track in three] == list(SIZES)
    first = three[0]
    for track in three:
        same = replace(track, id=first.id, base=first.base)
        assert same.digest == first.digest
        assert track.presets["scaling"] == {k: v for k, v in first.presets["paper"].items() if k != "dr-grpo"}
        assert len(preset(track, "scaling", [], [], [0, 1])) == 160


def test_a_sweep_goes_through_all_tracks_of_a_name(razorbench, monkeypatch, tmp_path):
    swept = []
    monkeypatch.setattr(scoring, "sweep_all", lambda work, *_, **__: swept.extend(work) or 0)
    ran = razorbench("sweep", "qwen2.5-scaling-v1", "--preset", "scaling", "--home", tmp_path)
    assert ran.code == 0
    assert [(track.id, len(specs)) for track, specs in swept] == [(track, 80) for track in GROUPS["qwen2.5-scaling-v1"]]
    ran = razorbench("sweep", "qwen2.5-3b-math-v1", "--home", tmp_path)
    assert (ran.code, ran.sentence.count("--methods or with --preset")) == (2, 1)


@pytest.mark.parametrize("base", SIZES)
def test_a_model_of_each_size_is_counted_without_its_weights(base, tmp_path):
    told, numbers = SIZES[base]
    config = Qwen2Config.from_pretrained(FOLDER)
    config.update({**told, "layer_types": ["full_attention"] * told["num_hidden_layers"]})
    config.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(FOLDER).save_pretrained(tmp_path)
    origin = Folder(str(tmp_path))
    policy = shaped(replace(BASES[base], origin=origin), tmp_path, {"limit": 8}, AUTO)
    assert sum(weight.numel() for weight in policy.parameters()) == numbers
    task = make("task", "mini-math-v1")
    rollout(policy, task, task.instances("test").first(2))
    assert sum(piece.operations for piece in policy.pieces_of_work) > 2 * 2 * 8 * 0.9 * numbers


@pytest.mark.slow
@pytest.mark.parametrize("track", [*QWEN, "qwen2.5-14b-science-v1"], indirect=True)
def test_a_tiny_model_takes_the_whole_way(track, data, tmp_path):
    """Of the layout of each: the heads of 7 and 14 B are apart from their embeddings."""
    policy = mini_lm(seed=1)
    if not SIZES[track.base.id][0]["tie_word_embeddings"]:
        config = policy.model.config
        config.tie_word_embeddings = False
        policy.model = Qwen2ForCausalLM(config)
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
    for method in tiny.demo or ["sft"]:
        (spec,) = plan(tiny, [method], ["lr=1e-5"], [0])
        small = replace(spec.settings, steps=2, warmup=1, batch=2, group=2, examples=4, horizon=6, epochs=1)
        record = run(Bench(tiny, tmp_path / "home"), Spec(spec.method, small, 0), tmp_path / "home")
        assert {score.task for score in record.scores} == {tiny.new, *tiny.prior_tasks}
        assert record.drifts[0].nats is not None

"""Observers see gradients and weights as an adaptation goes on; what they say is kept, and may predict forgetting."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from razorbench import Refused, register
from razorbench.harness.core.registry import REGISTERED, ids
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.observers import Observer, Update, Weights, find_observer, named
from razorbench.harness.learn.settings import Settings
from razorbench.harness.measure.record import Drift, Measure, Point
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.run import Spec, adapt_into, run
from razorbench.harness.store.database import Store
from razorbench.harness.tracks.catalogue import find_track
from tests.board_home import TRACK, add, items, scored
from tests.toys import SPELLING, Spell, Table

pytestmark = pytest.mark.usefixtures("toys")


class Seen(Observer):
    """Notes what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def begin(self, weights: Weights) -> None:
        self.calls.append(("begin", *weights))

    def after_backward(self, step: int, weights: Weights) -> Mapping[str, float]:
        norms = {name: weight.grad.norm().item() for name, weight in weights.items() if weight.grad is not None}
        self.calls.append(("backward", step, norms))
        return {"gradient": sum(norms.values())}

    def after_step(self, step: int, weights: Weights) -> Mapping[str, float]:
        self.calls.append(("step", step))
        return {"weight": sum(weight.norm().item() for weight in weights.values())}

    def at_checkpoint(self, step: int, weights: Weights) -> Mapping[str, float]:
        return {"places": float(len(weights))}


@pytest.fixture
def seen():
    """Registered for one test, as a script would."""
    register("measure", "seen")(Seen)
    yield Seen
    del REGISTERED["measure"]["seen"]


def test_an_observer_is_called_in_order_with_gradients_and_weights():
    policy, observer = Table(torch.zeros(4, 2, 3), (1, 2, 2, 1)), Seen()
    settings = Settings(lr=0.1, warmup=0, batch=4, steps=2, weight_decay=0.0)
    going = Adaptation(policy, Spell(), METHODS["sft"], settings, observers=[observer])
    reports = list(going)
    assert [call[:2] for call in observer.calls] == [
        ("begin", "0"),
        *(("backward", 1), ("step", 1), ("backward", 2), ("step", 2)),
    ]
    assert [report.grad_norm for report in reports] == pytest.approx([call[2]["0"] for call in observer.calls[1::2]])
    assert [report.measures["gradient"] for report in reports] == pytest.approx([r.grad_norm for r in reports])
    assert reports[-1].measures["weight"] == pytest.approx(policy.logits.norm().item())


def test_watching_changes_nothing(tmp_path, seen):
    spec = Spec("dr-grpo", replace(SPELLING.settings, steps=4, warmup=0))
    bench = Bench(SPELLING, tmp_path)
    bare = adapt_into(tmp_path / "bare", bench, spec)
    watched = adapt_into(tmp_path / "watched", bench, spec, observe=("update", "seen"))
    assert bare.weights.read_bytes() == watched.weights.read_bytes()
    first, second = ([replace(r, seconds=0.0, measures={}) for r in each.curve()] for each in (bare, watched))
    assert first == second


def test_update_is_the_distance_from_the_start_and_the_share_that_stayed():
    weights = {"a": torch.nn.Parameter(torch.zeros(3)), "b": torch.nn.Parameter(torch.ones(2))}
    observer = Update()
    observer.begin(weights)
    with torch.no_grad():
        weights["a"].add_(torch.tensor([3.0, 0.0, 5e-6]))
        weights["b"].sub_(torch.tensor([4.0, 0.0]))
    assert observer.at_checkpoint(1, weights) == pytest.approx({"update_norm": 5.0, "update_sparsity": 3 / 5})


def test_a_run_that_is_gone_on_with_measures_from_where_it_began(tmp_path):
    spec = Spec("sft", replace(SPELLING.settings, steps=4, warmup=0, lr=0.1))
    bench = Bench(SPELLING, tmp_path)
    whole = adapt_into(tmp_path / "whole", bench, spec, observe=("update",))

    def stop(report, steps):
        if report.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt_into(tmp_path / "parts", bench, spec, observe=("update",), save_every=1, tell=stop)
    parts = adapt_into(tmp_path / "parts", bench, spec, observe=("update",))
    ends = [each.curve()[-1].measures for each in (whole, parts)]
    assert ends[0] == ends[1]
    assert ends[0]["update_norm"] > 0


def test_what_is_measured_is_in_the_record(tmp_path, seen):
    spec = Spec("sft", replace(SPELLING.settings, lr=0.1, steps=3, warmup=0))
    record = run(Bench(SPELLING, tmp_path), spec, tmp_path, observe=("update", "seen"))
    ends = {measure.name: measure.value for measure in record.measures if measure.step == 3}
    assert {"update_norm", "update_sparsity", "gradient", "weight", "places"} <= set(ends)
    assert ends["places"] == 1


@pytest.mark.slow
def test_any_measure_may_predict_forgetting(tmp_path, razorbench):
    """Forgetting is 2 + 3·norm², so the norm explains all of it, and drift, which is noise here, little."""
    store, rng = Store(tmp_path), np.random.default_rng(0)
    rights = {
        ("new", "mini-math-v1"): ([0, 1] * 9, [1, 1] * 9),
        ("prior", "mini-form-v1"): ([1, 1] * 9, [1, 0] * 9),
    }
    drifts = rng.permutation(12) / 10 + 0.1
    for i in range(12):
        norm = i / 4
        forgot = 2 + 3 * norm**2
        made = {
            "settings": {"lr": 1e-4 * (i + 1)},
            "method": ("sft", "grpo")[i % 2],
            "retention": -forgot,
            "drifts": (Drift("mini-math-v1", "forward", "episode", float(drifts[i]), 0.1, 40),),
            "curve": (
                Point(0, drift=0.0, prior=80.0),
                Point(32, drift=float(drifts[i]), prior=80.0 - forgot, end=True),
            ),
            "measures": (Measure(16, "norm", 99.0), Measure(32, "norm", norm), Measure(32, "always", 1.0)),
        }
        samples = items(rights)
        add(store, (scored(f"r{i}", samples, **made), samples))
    rows = razorbench("law", TRACK, "--home", tmp_path, "--json").json
    assert [row["name"] for row in rows] == ["norm", "drift"]  # what is the same of all predicts nothing
    assert rows[0] == {**rows[0], "n": 12, "r2": pytest.approx(1), "r2_left_out": pytest.approx(1)}
    ends = store.law_points(TRACK, end=True)
    x, y = (np.array([end[name] for end in ends]) for name in ("drift", "forgetting"))
    left = y - np.polyval(np.polyfit(x, y, 2), x)
    assert rows[1]["r2"] == pytest.approx(1 - (left**2).sum() / ((y - y.mean()) ** 2).sum())
    assert "norm" in razorbench("law", TRACK, "--home", tmp_path).out
    assert razorbench("law", SPELLING.id, "--home", tmp_path / "none").out.startswith("A law needs four scored runs")


def test_unknown_and_wrong_measures_are_refused(tmp_path):
    with pytest.raises(Refused, match="unknown measure 'updat'; did you mean 'update'"):
        find_observer("updat")
    register("measure", "wrong")(print)
    try:
        with pytest.raises(Refused, match="registered as the measure 'wrong' is not one"):
            find_observer("wrong")
    finally:
        del REGISTERED["measure"]["wrong"]
    with pytest.raises(Refused, match="should be lower-case words, such as 'my-measure'"):
        register("measure", "Mine")(Seen)


def test_weights_have_their_names():
    from razorbench.agents.language.mini_lm import mini_lm
    from razorbench.agents.mlp import Mlp

    for policy in (Mlp(), mini_lm(), mini_lm().low_rank(2)):
        weights = named(policy)
        assert [id(weight) for weight in weights.values()] == [id(weight) for weight in policy.parameters()]
        assert all("weight" in name or "bias" in name for name in weights), list(weights)[:3]
    assert list(named(Table(torch.zeros(1, 1, 2), (1,)))) == ["0"]


def test_a_measure_and_a_base_of_another_package_are_used_by_name(plugin, tmp_path):
    """A track's file names the base, a run names the measure; both come from entry points."""
    code = (
        "from dataclasses import replace\n"
        "from razorbench.harness.learn.observers import Observer\n"
        "from tests.toys import SPELLING\n"
        "TWIN = replace(SPELLING.base, id='twin-v1', seed=1)\n"
        "class Largest(Observer):\n"
        "    def after_step(self, step, weights):\n"
        "        return {'largest': max(weight.abs().max().item() for weight in weights.values())}\n"
    )
    plugin("twin-v1 = plugin_of_test:TWIN\n\n[razorbench.measures]\nlargest = plugin_of_test:Largest", code, "bases")
    file = tmp_path / "mine-v1.toml"
    file.write_text(
        f'id = "mine-v1"\ntitle = "Mine"\nquestion = "?"\nbase = "twin-v1"\nnew = "{SPELLING.new}"\n'
        f"[priors]\nwords = {SPELLING.prior_tasks}\n"
    )
    track = find_track(str(file))
    assert track.base.id == "twin-v1"
    spec = Spec("sft", replace(SPELLING.settings, lr=0.1, steps=2, warmup=0))
    made = adapt_into(tmp_path / "made", Bench(track, tmp_path / "home"), spec, observe=("largest",))
    assert [report.measures["largest"] > 0 for report in made.curve()] == [True, True]
    assert "largest" in ids("measure")

"""Forms of checkpoints that other tools leave: each has its right verdict at both doors, and its weights' score."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from razorbench import Refused
from razorbench.harness.learn import checkpoint as checkpoints
from razorbench.harness.learn.policy import Policy
from razorbench.harness.measure.score import POINTS, Bench
from razorbench.harness.runs.run import check_beside
from razorbench.harness.tracks.bases import policy_digest
from razorbench.harness.tracks.catalogue import find_track
from razorbench.harness.tracks.spec import Conditions
from razorbench.submissions import queue
from razorbench.submissions import source as sources
from razorbench.submissions.claim import FILE
from tests.forms import CLAIM, FORMS, World


class Scores:
    """A small form of a track, and what it has scored already."""

    def __init__(self, home: Path):
        full = find_track("mini-tools-v1", home)
        prior = full.prior_tasks[0]
        track = replace(
            full, items=4, drift_items=4, checkpoints=0, priors={"one": (prior,)}, conditions=Conditions(limit=24)
        )
        self.home, self.bench = home, Bench(track, home)
        self.reference = sources.reference(full, home)
        self.known: dict[str, tuple[float | None, ...]] = {}

    def loaded(self, weights: Path) -> Policy:
        """The base with weights or adapters."""
        policy = self.bench.base.copy()
        policy.load(weights)
        return policy

    def of(self, policy: Policy) -> tuple[float | None, ...]:
        """Gain, retention and drift."""
        digest = policy_digest(policy)
        if digest not in self.known:
            scored = self.bench.score(policy)
            self.known[digest] = (POINTS * scored.gain.value, POINTS * scored.retention.value, scored.drifts[0].nats)
        return self.known[digest]

    def submitted(self, folder: Path, home: Path) -> Policy:
        """The policy that a submission is scored as."""

        def complete(copy: Path) -> None:
            if not (copy / FILE).exists():
                (copy / FILE).write_text(CLAIM)

        def trained(base: str) -> None:
            sources.trained_on(base, self.reference, True)

        sub = queue.admit(home, folder, self.reference, complete, trained=trained)
        return self.loaded(checkpoints.Checkpoint(queue.root(home) / sub.id / "files", None).weights)

    def scored(self, folder: Path) -> Policy:
        """The policy that `razorbench score` scores."""
        made = checkpoints.read(folder)
        check_beside(made, self.bench.track.base, self.home)
        return self.loaded(made.weights)


@pytest.fixture(scope="module")
def scores(tmp_path_factory: Any) -> Scores:
    return Scores(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: Any) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # peft and transformers warn of what we want to see refused
@pytest.mark.parametrize("name", FORMS)
def test_each_form_has_its_verdict_and_the_score_of_its_plain_weights(name, world, scores, tmp_path):
    form, folder = FORMS[name], tmp_path / "Größe 模型"
    plain = form.make(world, folder)
    if form.refused:
        with pytest.raises(Refused) as submitted:
            scores.submitted(folder, tmp_path / "home")
        assert form.refused in str(submitted.value)
        assert len(str(submitted.value)) < 600
        if form.score:
            with pytest.raises(Refused):
                scores.scored(folder)
        return
    assert plain is not None
    save_file(plain, tmp_path / "model.safetensors")
    expected = scores.of(scores.loaded(tmp_path / "model.safetensors"))
    assert expected[2] is not None
    assert expected[2] > 1e-3  # it is another model than the base
    doors = [scores.submitted(folder, tmp_path / "home"), *([scores.scored(folder)] if form.score else [])]
    for policy in doors:
        assert scores.of(policy) == pytest.approx(expected, rel=1e-3, abs=1e-6)

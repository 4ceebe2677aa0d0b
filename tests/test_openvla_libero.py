"""A tiny OpenVLA in LIBERO: it sees the simulator's pictures, moves, learns by SFT and REINFORCE, and is scored.

`make robots-tests`. Its episodes have two motions, and of it no success is expected that anybody would want: shown is
that pictures, words, action tokens, updates, scores, films, adapters, gate, worker and board go together.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from streamlit.testing.v1 import AppTest

from razorbench import Actions, Asked, Episodes, Observations
from razorbench.agents.openvla.policy import OpenVLA
from razorbench.agents.openvla.published import openvla
from razorbench.agents.openvla.tiny import FOLDER
from razorbench.harness.core.registry import REGISTERED
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.learn.policy import encoded
from razorbench.harness.tracks.origins import content_digest
from razorbench.tasks.libero import simulator
from tests.libero_tasks import STEPS, Begun, Nearing
from tests.test_openvla import flat

pytestmark = pytest.mark.robots
ROOT = Path(__file__).parent.parent
OPTIONS = {"unnorm_key": "libero_spatial", "camera": "agentview", "crop": 0.9, "gripper": "closes"}
"""As for a published checkpoint that was tuned on this suite."""
STATISTICS = {
    "q01": [-0.9] * 3 + [-0.2] * 3 + [0.0],
    "q99": [0.9] * 3 + [0.2] * 3 + [1.0],
    "mask": [True] * 6 + [False],
}
TRACK = """
id = "tiny-openvla-libero-v1"
title = "LIBERO: come nearer to a bowl, with a tiny OpenVLA"
question = "Does what sees and moves learn in a simulator of others?"
new = "nearing-v1"
items = 2
drift_items = 2
checkpoints = 0

[priors]
libero = ["begun-v1"]

[base]
id = "tiny-openvla-on-libero-v1"
agent = "openvla-v1"

[base.origin]
folder = "openvla-tiny-finetuned"
sha256 = "{}"

[base.options]
{}

[settings]
lr = 1e-2
warmup = 0
lora = 4
"""


@pytest.fixture(scope="module", autouse=True)
def installed():
    """Skips where LIBERO is not installed; in CI it is."""
    pytest.importorskip("libero", reason="LIBERO is not installed: make robots-tests", exc_type=ImportError)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REGISTERED["task"], "nearing-v1", Nearing)
        patch.setitem(REGISTERED["task"], "begun-v1", Begun)
        yield
    simulator.POOL.dismiss()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """The shipped weights, with statistics of their own as a checkpoint has them that was tuned on LIBERO."""
    folder = tmp_path_factory.mktemp("tracks") / "openvla-tiny-finetuned"
    shutil.copytree(FOLDER, folder)
    (folder / "dataset_statistics.json").write_text(json.dumps({"libero_spatial": {"action": STATISTICS}}))
    return folder


@pytest.fixture(scope="module")
def policy(checkpoint: Path) -> OpenVLA:
    return openvla(folder=checkpoint, **OPTIONS)  # type: ignore[arg-type]


class Asking:
    """An agent that does as another, and keeps what it was asked."""

    memoryless = True

    def __init__(self, agent: OpenVLA):
        self.agent, self.all = agent, []

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        self.all.append(asked)
        return self.agent.act(asked, temperature=temperature)


def test_what_is_sampled_is_what_is_learned_from_one_by_one_and_in_a_batch(policy):
    """The simulator plays one episode after the other, so each motion was drawn alone."""
    task, asked = Nearing(), Asking(policy)
    played = rollout(asked, task, task.instances("train").take(np.array([0, 0, 1])), seed=1)
    assert [len(each) for each in asked.all] == [1] * 3 * STEPS
    assert all(each.now.images["agentview"].shape == (1, 256, 256, 3) for each in asked.all)
    said = [turn.done for turn in played.turns if turn.done]
    drawn, code = (torch.cat([getattr(each, name) for each in said]) for name in ("logp", "code"))
    with torch.no_grad():
        told = flat(policy, played)  # all pictures in one batch, in the order that they were seen in
    assert float(drawn.std()) > 0.5
    torch.testing.assert_close(told, drawn.flatten(), rtol=0, atol=1e-4)
    rows, key, turn = (np.concatenate([getattr(each, name) for each in asked.all]) for name in ("rows", "key", "turn"))
    pictures = {"agentview": np.concatenate([each.now.images["agentview"] for each in asked.all])}
    now = Observations([each.now.text[0] for each in asked.all], pictures)
    done = policy.act(Asked(Episodes(played.instances), rows, now, key, turn))
    assert torch.equal(torch.as_tensor(done.code), code)
    torch.testing.assert_close(torch.as_tensor(done.logp), drawn, rtol=0, atol=1e-4)
    values = np.concatenate([each.value for each in said])
    assert np.array_equal(done.value, values)
    assert set(values[:, 6]) <= {-1.0, 1.0}
    assert task.valid(values).all()


def test_demonstrations_of_the_expert_are_bins_of_the_track_s_statistics(policy):
    task = Nearing()
    shown = demonstrations(task, task.instances("train").first(1))
    assert shown.reward.tolist() == [1.0]
    assert [turn.done.value[0].tolist() for turn in shown.turns if turn.done] == [[1, 1, -1, 0, 0, 0, -1]] * STEPS
    for turn in encoded(policy, shown).turns:
        assert turn.done
        assert turn.done.code.tolist() == [[255, 255, 0, 127, 127, 127, 255]]  # its gripper is open at −1, theirs at 1


@pytest.mark.slow(seconds=180)
def test_it_is_adapted_scored_and_submitted_as_adapters(checkpoint: Path, razorbench, tmp_path: Path, monkeypatch):
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in OPTIONS.items())
    track, home = checkpoint.with_name("tiny-openvla-libero-v1.toml"), tmp_path / "home"
    track.write_text(TRACK.format(content_digest(checkpoint), lines))

    def run(*argv: object) -> Any:
        ran = razorbench(*argv, "--home", home)
        assert ran.code == 0, ran.err
        return ran

    run("adapt", track, "--method", "sft", "--steps", 30, "--batch", 2, "--examples", 2, "--out", tmp_path / "sft")
    how = ("--steps", 1, "--batch", 2, "--group", 4, "--examples", 2)
    run("adapt", track, "--method", "reinforce", *how, "--out", tmp_path / "rl")
    for name in ("sft", "rl"):
        curve = [json.loads(line) for line in (tmp_path / name / "curve.jsonl").read_text().splitlines()]
        assert all(step["grad_norm"] > 0 for step in curve)
        assert len(load_file(tmp_path / name / "adapter_model.safetensors")) == 2 * 2 * 7  # on two layers of the Llama
        assert run("submit", tmp_path / name, "--track", track, "--licence", "MIT", "--json").json["kind"] == "lora"
    ran = run("worker", "--drain")
    assert ran.out.count("scored in") == 2, ran.out
    rows = {row["name"]: row for row in run("results", "--track", "tiny-openvla-libero-v1", "--json").json}
    assert rows.keys() == {"sft", "rl"}
    assert rows["sft"]["gain"] > 0
    assert all(row["drift"] > 0 and row["retention"] == 0 for row in rows.values())
    (shown,) = run("show", "sft", "--json").json["rows"]
    account = shown["run"]["provenance"]["account"]
    assert {name: account[name] for name in ("camera", "crop", "gripper")}.items() <= OPTIONS.items()
    assert (account["statistics"]["key"], account["statistics"]["source"]) == (
        "libero_spatial",
        "dataset_statistics.json",
    )
    assert {score["task"]: score["unscored"] for score in shown["scores"]} == {
        "nearing-v1": 0,
        "begun-v1": 0,
    }
    (film,) = run("film", "--submission", shown["run"]["id"], "--json").json["files"]
    assert Path(film).stat().st_size > 10_000
    monkeypatch.setenv("RAZORBENCH_HOME", str(home))
    board = AppTest.from_file(str(ROOT / "leaderboard" / "app.py"), default_timeout=120).run()
    for page in ("track", "submission", "samples"):
        board.switch_page(f"views/{page}.py")
        board.query_params = {"id": shown["run"]["id"], "kind": "learned"}
        board.run()
        assert not board.exception, board.exception

"""OpenVLA: towers as timm computes them, names as they are published, motions as they are decoded, a policy."""

import json
from copy import deepcopy
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from razorbench import Episodes, Observations, Outcomes, Refused, Turn
from razorbench.agents.openvla.actions import Bins, Told
from razorbench.agents.openvla.checkpoint import own, published
from razorbench.agents.openvla.model import Network
from razorbench.agents.openvla.pixels import HALF, IMAGENET, Pixels, centre
from razorbench.agents.openvla.policy import OpenVLA
from razorbench.agents.openvla.published import openvla
from razorbench.agents.openvla.shape import TOWERS, Shape, Tower
from razorbench.agents.openvla.sight import PROMPT
from razorbench.agents.openvla.tiny import FOLDER, STATISTICS, tiny_openvla, write
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.policy import Constrained, Enumerable, LowRank, Prediction, Shardable, encoded
from razorbench.harness.learn.runtime import Runtime
from razorbench.harness.learn.settings import Settings
from razorbench.harness.learn.vocabulary import Vocabulary
from razorbench.harness.measure.drift import divergence
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.run import Spec, run
from razorbench.harness.tracks.bases import base_policy, begun
from razorbench.harness.tracks.catalogue import BASES
from razorbench.harness.tracks.files import made_base, read_track, toml
from razorbench.harness.tracks.named import base_of
from razorbench.submissions.gate import check
from razorbench.submissions.source import reference
from razorbench.tasks.tabletop import CAMERA, COLOURS, Pretraining, Red
from tests.test_engine import ended, two
from tests.toys import REACHING

TIMM = Path(__file__).parent / "data" / "openvla-towers.npz"
"""What timm 0.9.10 and 1.0.31 make of weights and pictures that are drawn by `numbers`, and the names of its weights.

Both give these bytes: `VisionTransformer(img_size=56, patch_size=14, embed_dim=24, depth=3, num_heads=2, mlp_ratio=2,
num_classes=0, …)` with `init_values=1e-5, reg_tokens=4, no_embed_class=True`, and with `class_token=False,
global_pool="map"`; `get_intermediate_layers(…, n={1})[0]`.
"""


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights that a name alone decides."""
    drawn = np.random.default_rng(int.from_bytes(sha256(name.encode()).digest()[:4], "big")).standard_normal(shape)
    return (drawn * (0.3 if len(shape) > 1 else 0.5)).astype(np.float32)


@pytest.fixture(scope="module")
def policy() -> OpenVLA:
    """The tiny one with random weights that spread their bets unevenly."""
    policy = tiny_openvla(3)
    with torch.no_grad():
        policy.head.mul_(8)
    return policy


@pytest.fixture(scope="module")
def played(policy) -> Episodes:
    """Six tables, two episodes of each; colours and so instructions are of several lengths."""
    task = Pretraining()
    return rollout(policy, task, task.instances("test").take(np.repeat(np.arange(20, 26), 2)), seed=1)


def logits(part: Prediction) -> torch.Tensor:
    """Log-probabilities [M, 1, A] of everything that may be chosen."""
    assert isinstance(part.dist, Vocabulary)
    return part.dist.logits


def flat(policy: OpenVLA, episodes: Episodes) -> torch.Tensor:
    """Log-probabilities [E] of all elements, episode after episode in the order they were chosen in."""
    parts = list(policy.predict(episodes))
    owner = torch.cat([part.owner for part in parts])
    return torch.cat([part.logp[:, 0] for part in parts])[owner.argsort(stable=True)]


# --- the network ------------------------------------------------------------------------------------------------------


def test_towers_are_those_of_timm():
    told = np.load(TIMM)
    shape = Shape.read(FOLDER)
    network = Network(shape).eval()
    theirs = {
        name: torch.from_numpy(numbers(name, tuple(size))) for name, size in json.loads(str(told["names"])).items()
    }
    ours = published(dict(network.named_parameters()), shape)
    network.load_state_dict(own(ours | theirs, shape))
    pixels = torch.from_numpy(np.random.default_rng(7).standard_normal((2, 6, 56, 56)).astype(np.float32))
    with torch.no_grad():
        seen = network.vision_backbone(pixels).numpy()
    expected = np.concatenate([told["featurizer"], told["fused_featurizer"]], 2)
    assert expected.std() > 5
    np.testing.assert_allclose(seen, expected, rtol=1e-6, atol=1e-5)  # at 18 a step of single precision is 2e-6


def test_names_and_shapes_are_those_of_timm_and_come_back():
    network = Network(Shape.read(FOLDER))
    weights = {name: x.detach() for name, x in network.named_parameters()}
    named = published(weights, Shape.read(FOLDER))
    towers = {name: list(x.shape) for name, x in named.items() if name.startswith("vision_backbone.")}
    assert towers == json.loads(str(np.load(TIMM)["names"]))
    back = own(named, Shape.read(FOLDER))
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], x) for name, x in weights.items())


def test_full_size_has_the_weights_of_the_published_index():
    """7,541,237,184 numbers of two bytes are the index's total_size, 15,082,474,368; the towers' 685 names and shapes
    are those of timm's modules, which the checkpoint was saved from.
    """
    first, second = (next(iter(kinds.values())) for kinds in TOWERS)
    shape = Shape((first, second), 224, {"model_type": "llama", "vocab_size": 32064, "pad_token_id": 32000}, 256, 64)
    with torch.device("meta"):
        network = Network(shape)
    named = published(dict(network.named_parameters()), shape)
    assert 2 * sum(x.numel() for x in named.values()) == 15_082_474_368
    towers = {name: list(x.shape) for name, x in named.items() if name.startswith("vision_backbone.")}
    lines = "".join(f"{name} {sizes}\n" for name, sizes in sorted(towers.items()))
    assert len(towers) == 685
    assert sha256(lines.encode()).hexdigest() == "6f37c9b2559eb7b5c10dcff02bf6eeeac11cc48a5930892a2a8af9e64f92f5bf"
    rest = {name: list(x.shape) for name, x in named.items() if name not in towers}
    assert rest["projector.fc1.weight"] == [8704, 2176]
    assert rest["language_model.lm_head.weight"] == [32064, 4096]
    assert len(rest) == 6 + 3 + 32 * 9


def test_every_weight_that_is_used_gets_a_gradient_and_no_other(policy, played):
    twin = policy.copy()
    torch.stack([part.logp.sum() for part in twin.predict(played.take(np.arange(2)))]).sum().backward()
    with_none = {name for name, x in twin.model.named_parameters() if x.grad is None or not x.grad.abs().sum() > 0}
    assert with_none == twin.unused
    assert {name for name, x in twin.model.named_parameters() if not x.requires_grad} == twin.unused
    assert {name.split(".")[1] for name in twin.unused} == {"featurizer", "fused_featurizer"}


# --- what it says -----------------------------------------------------------------------------------------------------


def plain(policy: OpenVLA, seen: Any, i: int, tokens: list[int]) -> torch.Tensor:
    """Log-probabilities [k, V] before each token, by transformers' own Llama over one row written out."""
    model: Any = LlamaForCausalLM(deepcopy(policy.model.language_model.config))
    model.load_state_dict(policy.model.language_model.state_dict())
    model.set_attn_implementation("eager")
    picture = policy.pixels([seen.images[CAMERA][i]])
    patches = policy.model.projector(policy.model.vision_backbone(torch.from_numpy(picture)))
    text = policy.words.tokenizer.encode(PROMPT.format(seen.text[i])).ids
    space = policy.words.tokenizer.token_to_id("▁")
    assert text[0] == 1
    behind = torch.tensor([[*text[1:], space, *tokens]])
    embed = model.get_input_embeddings()
    rows = torch.cat([embed(torch.tensor([[1]])), patches, embed(behind)], 1)
    return model.eval()(inputs_embeds=rows).logits[0].log_softmax(-1)[-len(tokens) - 1 : -1]


@torch.no_grad()
def test_cached_padded_and_packed_is_the_full_pass_of_a_row_alone(policy, played):
    assert len({len(text) for text in played.turns[0].seen.text}) > 1
    told = flat(policy, played).split(played.lengths().tolist())
    for i in (0, 1, 5):
        place = 0
        for turn in played.turns[:2]:
            (row,) = np.flatnonzero(turn.rows == i)
            code = turn.done.code[row]
            logits = plain(policy, turn.seen, int(row), (policy.last - code).tolist())
            among = logits[:, policy.tokens].log_softmax(-1)
            theirs = among.gather(1, code[:, None])[:, 0]
            torch.testing.assert_close(turn.done.logp[row], theirs, rtol=0, atol=1e-5)  # sampled with the cache
            torch.testing.assert_close(told[i][place : place + 7], theirs, rtol=0, atol=1e-5)  # predicted in a batch
            place += 7


@torch.no_grad()
def test_bins_are_rows_of_the_vocabulary_and_what_is_outside_is_told(policy, played):
    turn = played.turns[0]
    whole = tiny_openvla(3, over="vocabulary")
    whole.model.load_state_dict(policy.model.state_dict())
    tokens = Turn(turn.rows, turn.seen, replace(turn.done, code=policy.last - turn.done.code))
    ours, theirs = (
        torch.cat([logits(part) for part in each.predict(Episodes(played.instances, [shown]))])
        for each, shown in ((policy, turn), (whole, tokens))
    )
    among = theirs[..., policy.tokens]
    torch.testing.assert_close(ours, among.log_softmax(-1), rtol=0, atol=1e-5)
    outside = 1 - among.double().exp().sum(-1)
    assert isinstance(policy, Constrained)
    mean, elements = policy.outside(Episodes(played.instances, [turn]))
    assert elements == 7 * len(turn.rows)
    assert mean == pytest.approx(float(outside.mean()), abs=1e-6)
    assert 0.01 < mean < 0.99


def test_over_the_whole_vocabulary_it_is_a_policy_too():
    policy, task = tiny_openvla(0, over="vocabulary"), Red()
    episodes = rollout(policy, task, task.instances("test").first(8), seed=2)
    done = [turn.done for turn in episodes.turns if turn.done]
    code = torch.cat([each.code for each in done])
    assert int(code.max()) > policy.last or int(code.min()) <= policy.last - 256  # a token that is no bin's
    values = np.concatenate([each.value for each in done])
    assert np.abs(values[:, :2]).max() <= 0.25
    nats = divergence(policy, policy.copy(), episodes).nats
    assert float(nats.abs().max()) == 0.0


def test_greedy_motions_are_those_of_the_likeliest_tokens(policy):
    task = Red()
    said = rollout(policy, task, task.instances("test").first(4), temperature=0.0)
    for part in policy.predict(said):
        assert torch.equal(logits(part).argmax(-1), part.code)


def test_a_picture_that_many_see_is_looked_at_once(policy, monkeypatch):
    looked = []
    through = type(policy.pixels).__call__
    monkeypatch.setattr(Pixels, "__call__", lambda self, shown: looked.append(len(shown)) or through(self, shown))
    task = Red()
    episodes = rollout(policy, task, task.instances("test").take(np.repeat([5, 6], 8)))
    assert looked[0] == 2
    looked.clear()
    list(policy.predict(Episodes(episodes.instances, episodes.turns[:1])))
    assert sum(looked) == 2


def test_another_picture_or_instruction_is_another_distribution(policy, played):
    turn = played.turns[0]
    dark = replace(turn.seen, images={CAMERA: turn.seen.images[CAMERA] // 2})
    other = replace(turn.seen, text=["push it"] * len(turn.rows))
    with torch.no_grad():
        before, *after = (
            flat(policy, Episodes(played.instances, [replace(turn, seen=seen)])) for seen in (turn.seen, dark, other)
        )
    for each in after:
        assert float((each - before).abs().max()) > 1e-2


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (
            Observations(["go"], {"a": np.zeros((1, 56, 56, 3), np.uint8)} | {"b": None}),
            "cameras a, b, and OpenVLA sees",
        ),
        (Observations(["go"], state=np.zeros(1)), "asked without a picture"),
        (Observations(None, {"a": np.zeros((1, 56, 56, 3), np.uint8)}), "asked without an instruction"),
        (Observations(["go"], {"a": np.zeros((1, 56, 56, 4), np.uint8)}), r"a picture is uint8 \[56, 56, 4\]"),
        (Observations(["go " * 300], {"a": np.zeros((1, 56, 56, 3), np.uint8)}), "and the model reads 256; say less"),
    ],
)
def test_what_cannot_be_seen_is_refused(policy, seen, words):
    task = Red()
    instances = task.instances("test").first(1)

    class Shows(Red):
        def play(self, instances):
            yield seen
            return Outcomes(np.zeros(1))

    with pytest.raises(Refused, match=words):
        rollout(policy, Shows(), instances)


# --- motions ----------------------------------------------------------------------------------------------------------


def test_codes_are_those_of_numpys_digitize_and_the_last_two_mean_one_value():
    bins = Bins()
    assert bins.codes(np.array([-1.0, -2.0, -0.999, 0.0, 0.999999, 1.0, 3.0])).tolist() == [0, 0, 0, 127, 254, 255, 255]
    middles = bins.numbers(np.arange(256))
    assert middles[0] == pytest.approx(-1 + 1 / 255)
    assert middles[254] == middles[255] == pytest.approx(1 - 1 / 255)
    assert np.array_equal(bins.codes(middles[:255]), np.arange(255))
    assert bins.numbers(np.array([-5, 300])).tolist() == [middles[0], middles[255]]


def test_motions_are_unnormalised_by_the_statistics_where_the_mask_says_so(policy):
    code = torch.tensor([[0, 255, 128, 128, 128, 128, 255]])
    motion = policy.motions(policy.last - code)
    middle = 2 * 128 / 255 - 1 + 1 / 255
    expected = [-0.25 * (254 / 255), 0.25 * (254 / 255), 0.1 * middle, *[0.2 * middle] * 3, 254 / 255]
    np.testing.assert_allclose(motion[0], expected, rtol=1e-6)
    again = policy.encode(motion)
    assert again.tolist() == [[0, 254, 128, 128, 128, 128, 254]]


def test_tokens_count_backwards_from_the_last_before_the_padding(policy):
    assert not isinstance(policy, Enumerable)
    assert policy.last == 128 + 256 - 1
    assert policy.tokens[:2].tolist() == [383, 382]
    assert int(policy.tokens[-1]) == 128


def test_own_statistics_go_before_those_of_the_base_and_both_are_told(tmp_path):
    write(tmp_path, [])
    tuned = {"table": {"action": {"q01": [-1.0] * 7, "q99": [3.0] * 7}}, **STATISTICS}
    (tmp_path / "dataset_statistics.json").write_text(json.dumps(tuned))
    told = Told.read(tmp_path)
    first, behind = told.choose("tabletop")
    assert (first.source, behind.source) == ("dataset_statistics.json", "config.json")
    (alone,) = told.choose("table")
    assert alone.motion(np.array([[0.0] * 7])).tolist() == [[1.0] * 7]
    with pytest.raises(
        Refused, match=r"no statistics 'bridge_orig'; choose from dataset_statistics\.json: table, tabletop; "
    ):
        told.choose("bridge_orig")
    with pytest.raises(Refused, match="no statistics are named"):
        told.choose()
    account = tiny_openvla(0, tmp_path, unnorm_key="tabletop").account()
    assert account["statistics"]["source"] == "dataset_statistics.json"
    assert [each["source"] for each in account["statistics_behind"]] == ["config.json"]
    assert json.loads(json.dumps(account)) == json.loads(json.dumps(account, sort_keys=True))


def test_statistics_beside_adapted_weights_go_before_those_of_the_base(policy, tmp_path):
    wide = {"tabletop": {"action": {"q01": [-2.0] * 7, "q99": [2.0] * 7, "mask": [True] * 7}}}
    policy.save(tmp_path / "model.safetensors")
    (tmp_path / "dataset_statistics.json").write_text(json.dumps(wide))
    twin = policy.copy()
    twin.load(tmp_path / "model.safetensors")
    assert twin.statistics[0].high[0] == 2.0
    assert [each.source for each in twin.statistics] == ["dataset_statistics.json", "config.json of its base"]
    assert policy.statistics[0].high[0] == 0.25


def test_what_never_moves_is_the_middle_and_a_gripper_is_what_it_is():
    told = {"action": {"q01": [0.5, 0.0], "q99": [0.5, 1.0], "mask": [True, False]}}
    (statistics,) = Told({"config.json": {"still": told}}).choose()
    assert statistics.numbers(np.array([[0.7, 0.25]])).tolist() == [[0.0, 0.25]]
    assert statistics.motion(np.array([[0.9, 0.25]])).tolist() == [[0.5, 0.25]]


@pytest.mark.parametrize(("gripper", "open_"), [("opens", 1.0), ("closes", -1.0)])
def test_a_gripper_is_told_one_or_minus_one_where_the_task_counts_so(gripper, open_):
    """OpenVLA's own is 0 where it is closed and 1 where it is open; its evaluation in LIBERO takes the sign, turned."""
    policy = tiny_openvla(0, gripper=gripper)
    code = torch.full((4, 7), 128)
    code[:, 6] = torch.tensor([127, 190, 192, 255])  # 0.00, 0.49, 0.51 and 1.00
    motion = policy.motions(policy.last - code)
    assert motion[:, 6].tolist() == [-open_, -open_, open_, open_]
    assert np.array_equal(motion[:, :6], tiny_openvla(0).motions(policy.last - code)[:, :6])
    assert policy.encode(motion)[:, 6].tolist() == [127, 127, 255, 255]  # 0 and 1, as it was trained on them
    assert policy.account()["gripper"] == gripper
    with pytest.raises(Refused, match="gripper 'shuts' is unknown; say whether its 1 opens or closes"):
        tiny_openvla(0, gripper="shuts")


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_pixels_are_six_channels_of_a_bicubic_picture():
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    six = Pixels(56)([picture])
    small = np.asarray(Image.fromarray(picture).resize((56, 56), Image.Resampling.BICUBIC))
    assert six.shape == (1, 6, 56, 56)
    for channel in range(6):
        mean, std = (IMAGENET, HALF)[channel // 3]
        theirs = (small[..., channel % 3] / 255 - mean[channel % 3]) / std[channel % 3]
        np.testing.assert_allclose(six[0, channel], theirs, atol=1e-6)
    same = np.zeros((56, 56, 3), np.uint8)
    assert Pixels(56)([same])[0, 3:].max() == -1.0


def test_norms_of_the_checkpoint_go_before_those_of_the_papers(tmp_path):
    rounded = [{"mean": [0.484375, 0.455078125, 0.40625], "std": [0.25] * 3}, {"mean": [0.5] * 3, "std": [0.5] * 3}]
    told = {"means": [[0.1] * 3] * 2, "stds": [[0.1] * 3] * 2, "interpolations": ["bicubic", "bicubic"]}
    path = tmp_path / "preprocessor_config.json"
    path.write_text(
        json.dumps(told | {"tvf_normalize_params": rounded, "tvf_resize_params": [{"interpolation": 3}] * 2})
    )
    assert Pixels.read(tmp_path, 224).norms[0] == ([0.484375, 0.455078125, 0.40625], [0.25] * 3)
    path.write_text(json.dumps(told))
    assert Pixels.read(tmp_path, 224).norms[1] == ([0.1] * 3, [0.1] * 3)
    path.write_text(json.dumps(told | {"image_resize_strategy": "letterbox"}))
    with pytest.raises(Refused, match="in another way"):
        Pixels.read(tmp_path, 224)


def test_centre_is_sampled_between_corners_that_are_aligned():
    ramp = np.broadcast_to(np.arange(0, 201, 2, dtype=np.uint8)[None, :, None], (101, 101, 3))
    seen = centre(np.ascontiguousarray(ramp), 0.81, 11)  # nine tenths of the side: from 5 to 95
    expected = np.floor(np.linspace(10, 190, 11) / 255 * 255.5)
    assert np.abs(seen[0, :, 0] - expected).max() <= 1
    assert seen.shape == (11, 11, 3)


# --- files ------------------------------------------------------------------------------------------------------------


def checkpoint(policy: OpenVLA, folder: Path, shards: int = 2) -> Path:
    """A published checkpoint in bf16, in several files with an index."""
    folder.mkdir()
    told = json.loads((FOLDER / "config.json").read_text())
    told["text_config"] |= {"torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(told))
    (folder / "tokenizer.json").write_bytes((FOLDER / "tokenizer.json").read_bytes())
    named = {name: x.bfloat16() for name, x in policy.filed(policy.weights()).items()}
    index = {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: x.contiguous() for name, x in sorted(named.items())[i::shards]}
        save_file(part, folder / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def test_a_published_checkpoint_in_shards_is_read_whole(policy, played, tmp_path):
    folder = checkpoint(policy, tmp_path / "vla")
    read = openvla(folder=folder, runtime=Runtime("cpu", "float32"))
    for name, x in policy.model.named_parameters():
        assert torch.equal(read.model.get_parameter(name), x.bfloat16().float()), name
    assert {x.dtype for x in read.parameters()} == {torch.float32}
    assert read.statistics[0].key == "tabletop"
    rounded = tiny_openvla(0)
    rounded.model.load_state_dict(read.model.state_dict())
    with torch.no_grad():
        # A processor may round by where in memory weights lie: with AVX2 alone it does.
        torch.testing.assert_close(flat(read, played), flat(rounded, played), rtol=1e-5, atol=1e-5)


def test_what_lacks_a_part_or_is_of_another_kind_is_refused(policy, tmp_path):
    folder = checkpoint(policy, tmp_path / "vla", shards=1)
    file = folder / "model-00001-of-00001.safetensors"
    whole = load_file(file)
    save_file({name: x for name, x in whole.items() if name != "projector.fc3.bias"}, file, {"format": "pt"})
    with pytest.raises(Refused, match=r"projector.fc3.bias is missing, expected \[64\]"):
        openvla(folder=folder)
    told = json.loads((folder / "config.json").read_text())
    for change, words in (
        ({"arch_specifier": "no-align+gelu-mlp"}, "says arch_specifier 'no-align"),
        ({"text_config": {"model_type": "phi"}}, "language model of the kind 'phi'"),
        ({"tower_sizes": None, "timm_model_ids": ["vit_large_patch14_clip_224.openai"]}, "no config of an OpenVLA"),
        ({"image_sizes": [224, 384]}, r"pictures of \[224, 384\] pixels"),
    ):
        (folder / "config.json").write_text(json.dumps(told | change))
        with pytest.raises(Refused, match=words):
            openvla(folder=folder)
    with pytest.raises(Refused, match=r"no config\.json"):
        openvla(folder=tmp_path)


def test_published_towers_are_named_by_their_names(tmp_path):
    named = [name for kinds in TOWERS for name in kinds]
    told = {"timm_model_ids": named, "image_sizes": [224, 224], "text_config": {}, "n_action_bins": 256}
    (tmp_path / "config.json").write_text(json.dumps(told | {"pad_to_multiple_of": 64}))
    shape = Shape.read(tmp_path)
    assert shape.towers == (Tower(1024, 24, 16, 4096), Tower(1152, 27, 16, 4304))
    assert shape.patches == 256


def test_saved_weights_have_published_names_and_come_back(policy, tmp_path):
    policy.save(tmp_path / "model.safetensors")
    saved = load_file(tmp_path / "model.safetensors")
    assert "vision_backbone.featurizer.blocks.2.attn.qkv.weight" in saved
    assert "vision_backbone.fused_featurizer.attn_pool.kv.bias" in saved
    twin = tiny_openvla(8)
    twin.load(tmp_path / "model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(twin.parameters(), policy.parameters(), strict=True))


def test_shipped_files_are_those_that_are_written_again(tmp_path):
    write(tmp_path, [f"reach the {colour} block" for colour in COLOURS])
    for name in ("config.json", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()


# --- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sft", "reinforce"])
@pytest.mark.parametrize("lora", [0, 2])
def test_a_step_is_taken_with_pictures(policy, played, method, lora):
    adapted = policy.low_rank(lora) if lora else policy.copy()
    assert isinstance(adapted, LowRank)
    settings = Settings(lr=1e-3, warmup=0, batch=4, steps=1, group=4 if method == "reinforce" else 1)
    task = Red()
    (report,) = Adaptation(adapted, task, METHODS[method], settings)
    assert report.elements > 0
    assert report.grad_norm > 0
    nats = divergence(policy, adapted, played).nats
    assert nats.isfinite().all()
    assert float(nats.max()) > 0
    assert float(divergence(policy, policy.copy(), played).nats.abs().max()) == 0.0


def test_adapters_are_on_the_language_model_and_come_back(policy, played, tmp_path):
    adapted = policy.low_rank(2)
    with torch.no_grad():
        for weight in adapted.parameters():
            weight += 0.05
    adapted.save(tmp_path / "adapter_model.safetensors")
    names = {name.rpartition(".lora_")[0] for name in load_file(tmp_path / "adapter_model.safetensors")}
    layers = "base_model.model.language_model.model.layers."
    assert len(names) == 2 * 7
    assert all(name.startswith(layers) and name.endswith("_proj") for name in names)
    twin = policy.copy()
    twin.load(tmp_path / "adapter_model.safetensors")
    with torch.no_grad():
        ours, theirs, merged = (flat(each, played) for each in (adapted, twin, adapted.merged()))
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(merged, ours, rtol=0, atol=1e-4)
    assert {name for name, x in adapted.merged().model.named_parameters() if not x.requires_grad} == policy.unused


def all_linear(policy: OpenVLA, rank: int, folder: Path) -> Path:
    """A file of adapters as OpenVLA's fine-tuning makes them, on every linear map but the head."""
    drawn, tensors = np.random.default_rng(5), {}
    for name, x in policy.filed(policy.weights()).items():
        if x.ndim == 2 and not name.endswith(("embed_tokens.weight", "lm_head.weight")):
            for side, size in (("A", (rank, x.shape[1])), ("B", (x.shape[0], rank))):
                values = torch.from_numpy(drawn.normal(0, 0.1, size).astype(np.float32))
                tensors[f"base_model.model.{name.removesuffix('.weight')}.lora_{side}.weight"] = values
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": rank, "lora_alpha": 3, "target_modules": "all-linear", "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(told | {"init_lora_weights": "gaussian"}))
    return folder / "adapter_model.safetensors"


def test_adapters_on_all_linear_maps_add_what_they_say_to_the_published_weights(policy, played, tmp_path):
    file = all_linear(policy, 2, tmp_path / "mine")
    adapted, added = policy.copy(), policy.copy()
    adapted.load(file)
    weights, matrices = policy.filed(policy.weights()), load_file(file)
    assert "base_model.model.vision_backbone.featurizer.blocks.0.attn.qkv.lora_B.weight" in matrices
    for name in {name.rpartition(".lora_")[0] for name in matrices}:
        map_ = name.removeprefix("base_model.model.") + ".weight"
        weights[map_] = weights[map_] + 3 / 2 * matrices[f"{name}.lora_B.weight"] @ matrices[f"{name}.lora_A.weight"]
    added.model.load_state_dict(own(weights, policy.shape))
    with torch.no_grad():
        ours, theirs, base = (flat(each, played) for each in (adapted, added, policy))
        merged = flat(adapted.merged(), played)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    torch.testing.assert_close(merged, theirs, rtol=0, atol=1e-4)
    assert float((theirs - base).abs().max()) > 0.1
    assert all(weight.requires_grad == (".lora_" in name) for name, weight in adapted.model.named_parameters())


def test_activations_that_are_computed_again_and_bf16_change_no_more_than_rounding(policy):
    task = Red()
    shown = encoded(policy, demonstrations(task, task.instances("train").first(3), "usual"))
    gradients = []
    for runtime in (
        Runtime("cpu", "float32"),
        Runtime("cpu", "float32", checkpointing=True),
        Runtime("cpu", "bfloat16"),
    ):
        twin = tiny_openvla(3, runtime=runtime)
        twin.model.load_state_dict(policy.model.state_dict())
        torch.stack([part.logp.sum() for part in twin.predict(shown)]).sum().backward()
        gradients.append(torch.cat([x.grad.flatten() for x in twin.parameters() if x.grad is not None]))
    plain, again, coarse = gradients
    torch.testing.assert_close(again, plain, rtol=1e-5, atol=1e-5)
    assert float(torch.cosine_similarity(coarse, plain, dim=0)) > 0.97


def test_passes_of_others_cost_nothing_that_counts(policy, played):
    twin = policy.copy()
    assert isinstance(twin, Shardable)
    assert twin.passes(played) == len(list(twin.predict(played)))
    loss = twin.idle()
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(x.grad is not None and not x.grad.any() for x in twin.parameters())


@pytest.mark.long
@pytest.mark.slow(seconds=15)
def test_two_processes_that_share_the_weights_compute_what_one_does(tmp_path):
    ended(two("tests.sharded_openvla", tmp_path / "apart.json"))
    told = json.loads((tmp_path / "apart.json").read_text())
    assert told["same"]
    assert told["weights"] == len(list(tiny_openvla().parameters()))
    assert told["apart"] < 1e-5


def test_micro_batches_change_no_prediction(policy, played):
    small = tiny_openvla(3, runtime=Runtime("cpu", "float32", micro_batch=70))
    small.model.load_state_dict(policy.model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(flat(small, played), flat(policy, played), rtol=1e-5, atol=1e-5)
        back = played.take(np.arange(len(played))[::-1].copy())
        ours = flat(policy, back).split(back.lengths().tolist())
    theirs = flat(policy, played).detach().split(played.lengths().tolist())
    for one, other in zip(ours, theirs[::-1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.slow(seconds=10)
def test_a_record_tells_by_which_statistics_and_what_lies_outside_of_the_bins(toys, tmp_path):
    settings = replace(REACHING.settings, steps=1)
    bench = Bench(REACHING, tmp_path)
    record = run(bench, Spec("reinforce", settings), tmp_path)
    account = record.provenance["account"]
    assert account["statistics"]["key"] == "tabletop"
    assert account["statistics"]["source"] == "config.json"
    assert account == record.provenance["scored"]["account"]
    assert {*record.provenance["outside"]} == {"base", "adapted"}
    assert isinstance(bench.base, Constrained)
    share, _ = bench.base.outside(rollout(bench.base, bench.new, bench.drift_instances))
    assert record.provenance["outside"]["base"] == pytest.approx(share)
    assert 0 < record.provenance["outside"]["adapted"] < 1
    assert record.drifts
    assert {score.metrics.keys() >= {"success_once", "success_at_end"} for score in record.scores} == {True}


def test_a_base_tells_its_agent_by_which_statistics(tmp_path):
    told = {"id": "my-vla-v1", "agent": "tiny-openvla-v1", "recipe": {"task": "tabletop-pretraining-v1"}}
    base = made_base(told | {"options": {"unnorm_key": "tabletop", "crop": 0.9}}, "a file")
    assert base.recipe != made_base(told, "a file").recipe
    account = begun(base, tmp_path, {}).account()  # type: ignore[attr-defined]
    assert (account["statistics"]["key"], account["crop"]) == ("tabletop", 0.9)
    with pytest.raises(Refused, match=r"no statistics 'bridge_orig'; choose from config\.json: tabletop"):
        begun(replace(base, options={"unnorm_key": "bridge_orig"}), tmp_path, {})
    with pytest.raises(Refused, match="tiny-openvla-v1 cannot be told unnorm_kay"):
        begun(replace(base, options={"unnorm_kay": "tabletop"}), tmp_path, {})
    track = replace(REACHING, id="mine-v1", base=base)
    path = tmp_path / "mine-v1.toml"
    path.write_text(toml(track))
    back = read_track(path, BASES.__getitem__)
    assert back.base.options == {"unnorm_key": "tabletop", "crop": 0.9}
    assert back.digest == track.digest != replace(track, base=replace(base, options={})).digest


def test_the_track_of_the_page_is_a_track(tmp_path):
    page = (Path(__file__).parent.parent / "docs" / "openvla.md").read_text()
    path = tmp_path / "bowls.toml"
    path.write_text(next(block.partition("```")[0] for block in page.split("```toml\n")[1:] if "[priors]" in block))
    track = read_track(path, BASES.__getitem__)
    assert all(track.lanes(id) for id in track.tasks)
    cards = [make("task", id).card.protocol for id in track.tasks]
    assert all([*card.cameras] == [track.base.options["camera"]] for card in cards)


def test_a_folder_of_it_is_read_by_its_agent(policy, tmp_path):
    base = base_of(str(checkpoint(policy, tmp_path / "vla")))
    assert base.agent == "openvla-v1"
    assert isinstance(begun(base, tmp_path, {}), OpenVLA)


def test_the_gate_takes_its_adapters_and_all_of_its_weights(toys, tmp_path):
    base = shipped(tmp_path)
    for name, adapted in (("lora", base.low_rank(2)), ("full", base.copy())):
        with torch.no_grad():
            for weight in adapted.parameters():
                weight += 0.01
        folder = tmp_path / name
        folder.mkdir()
        adapted.save(folder / ("adapter_model.safetensors" if name == "lora" else "model.safetensors"))
        claim(folder, name)
        assert check(folder, reference(REACHING, tmp_path)).kind == name
    all_linear(base, 2, tmp_path / "all")
    claim(tmp_path / "all", "all")
    assert check(tmp_path / "all", reference(REACHING, tmp_path)).kind == "lora"


def test_the_gate_takes_statistics_of_motions_and_of_nothing_else(toys, tmp_path):
    base, folder = shipped(tmp_path), tmp_path / "mine"
    adapted = base.low_rank(2)
    with torch.no_grad():
        for weight in adapted.parameters():
            weight += 0.01
    folder.mkdir()
    adapted.save(folder / "adapter_model.safetensors")
    claim(folder, "mine")
    told = STATISTICS["tabletop"]["action"]
    file = folder / "dataset_statistics.json"
    for changed in (
        told,
        {"q01": [-2] * 7, "q99": told["q99"]},
    ):
        file.write_text(json.dumps({"tabletop": {"action": changed, "num_transitions": 7}}))
        assert check(folder, reference(REACHING, tmp_path)).kind == "lora"
    for changed in (
        {"q01": told["q01"]},
        told | {"q99": told["q99"][:6]},
        {"q01": [0.0] * 3, "q99": [1.0] * 3},
        told | {"mask": [1] * 7},
        told | {"q01": ["0"] * 7},
        told | {"q01": [10**400] * 7},
        "q01",
    ):
        file.write_text(json.dumps({"tabletop": {"action": changed}}))
        with pytest.raises(Refused, match=r"does not tell q01, q99 and mask of 7 numbers of actions for 'tabletop'"):
            check(folder, reference(REACHING, tmp_path))


def claim(folder: Path, name: str) -> None:
    """Say what a submission is."""
    told = {"track": REACHING.id, "name": name, "method": "sft", "licence": "MIT"}
    (folder / "submission.toml").write_text("".join(f"{key} = {value!r}\n" for key, value in told.items()))


def shipped(home: Path) -> OpenVLA:
    """The shipped base."""
    base = base_policy(REACHING.base, home)
    assert isinstance(base, OpenVLA)
    return base


def test_the_shipped_base_knows_red_and_blue_and_some_of_green(tmp_path):
    base = shipped(tmp_path)
    reached = []
    for id in REACHING.tasks:
        task = make("task", id)
        reached.append(rollout(base, task, task.instances("test").first(60), temperature=0.0).reward.mean())
    assert reached[0] > 0.5
    assert min(reached[1:]) > 0.95
    assert (FOLDER / "model.safetensors").stat().st_size < 1e6

"""A model behind an OpenAI-compatible server: a real one on this machine, and a stand-in that misbehaves."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest

from razorbench import Refused
from razorbench.agents.endpoint import Endpoint
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.policy import Policy
from razorbench.harness.tracks.bases import base_files, copy_into
from razorbench.harness.tracks.catalogue import TRACKS, find_track
from razorbench.harness.tracks.named import named_policy
from razorbench.harness.tracks.origins import Served
from tests.test_demonstrations import Twice


class Server(ThreadingHTTPServer):
    """Answers each request with what `answer` makes of its body: a status and JSON, or the text of a reply."""

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.asked = answer, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self):
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, told, self.headers["Authorization"]))
        status, said = self.server.answer(told)
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def chat(text, reason="stop"):
    return 200, {
        **{"id": "1", "object": "chat.completion", "created": 1, "model": "m"},
        "choices": [{"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text}}],
    }


def refusal(status, message):
    return status, {"error": {"message": message, "type": "invalid_request_error"}}


@pytest.fixture
def serve():
    """Starts a stand-in for a server."""
    servers = []

    def start(answer):
        servers.append(server := Server(answer))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_conversations_are_sent_whole_and_answered_in_their_order(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")

    def answer(told):
        said = told["messages"][-1]["content"]
        time.sleep(0.05 * (said == "ab"))  # the first is the last to be answered
        return chat("yes" if said.startswith("and") else said[::-1])

    server = serve(answer)
    agent = Endpoint(server.url, "m", prompt="Be brief.", limit=7)
    played = rollout(agent, Twice(), Twice().instances("test"))
    assert played.reward.tolist() == [1.0] * 4
    assert {path for path, _, _ in server.asked} == {"/v1/chat/completions"}
    assert {key for _, _, key in server.asked} == {"Bearer secret"}
    last = next(told for _, told, _ in server.asked if told["messages"][-1]["content"] == "and ba?")
    assert last["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "ba"},
        {"role": "tool", "content": "and ba?"},
    ]
    assert (last["model"], last["max_tokens"], last["temperature"]) == ("m", 7, 1.0)
    assert len({told["seed"] for _, told, _ in server.asked}) == len(server.asked)
    seeds = sorted(told["seed"] for _, told, _ in server.asked)
    server.asked.clear()
    rollout(agent, Twice(), Twice().instances("test"))
    assert sorted(told["seed"] for _, told, _ in server.asked) == seeds


def test_an_answer_that_is_cut_off_or_empty_is_told_as_such(serve):
    answers = iter([chat("2 and", "length"), chat(None), chat("2"), chat("", "content_filter")])
    agent = Endpoint(serve(lambda told: next(answers)).url, "m", at_once=1)
    said = agent.chats([[{"role": "user", "content": "1 + 1?"}]] * 4, 8)
    assert [(each.text, each.finished) for each in said] == [("2 and", False), ("", True), ("2", True), ("", False)]


def test_a_conversation_that_the_model_cannot_read_fails_its_item_alone(serve):
    def answer(told):
        if told["messages"][-1]["content"] == "cd":
            return refusal(400, "This model's maximum context length is 16 tokens. However, you requested 17 tokens.")
        return chat("x")

    played = rollout(Endpoint(serve(answer).url, "m"), Twice(), Twice().instances("test").first(2))
    assert played.outcome is not None
    assert played.outcome.error is not None
    assert played.reward.tolist() == [0.0, 0.0]
    assert [bool(why) for why in played.outcome.error] == [False, True]
    assert "maximum context length is 16 tokens" in str(played.outcome.error[1])


def test_a_busy_server_is_asked_again(serve):
    answers = iter([refusal(503, "loading"), refusal(429, "slow down"), chat("here")])
    agent = Endpoint(serve(lambda told: next(answers)).url, "m")
    assert agent.chats([[{"role": "user", "content": "?"}]], 8)[0].text == "here"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (refusal(401, "no key"), r"answers 401 of m: .*no key.*; set OPENAI_API_KEY to a key of it$"),
        (refusal(404, "no such model"), r"answers 404 of m: .*no such model.*; name the model as GET /models does$"),
        (refusal(400, "seed is not supported"), r"answers 400 of m: .*seed is not supported"),
        ((200, {"choices": []}), r"answers otherwise than OpenAI's interface"),
        ((200, {"detail": "hello"}), r"answers otherwise than OpenAI's interface"),
        ((200, b"<html>"), r"answers otherwise than OpenAI's interface"),
    ],
)
def test_what_is_no_answer_is_refused_in_a_sentence_and_is_no_zero(serve, answer, sentence):
    server = serve(lambda told: answer)
    with pytest.raises(Refused, match=sentence) as refused:
        rollout(Endpoint(server.url, "m", at_once=2), Twice(), Twice().instances("test"))
    assert str(refused.value).startswith(server.url)
    assert len(server.asked) <= 4


def test_a_server_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("razorbench.agents.endpoint.TRIES", 0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        agent = Endpoint(f"http://127.0.0.1:{free.getsockname()[1]}/v1", "m")
        with pytest.raises(Refused, match=r"does not answer .*; start the server, and the same command goes on"):
            agent.chats([[{"role": "user", "content": "?"}]], 8)


def test_ifeval_is_asked_as_a_chat_or_as_a_text_and_likelihoods_are_refused(data, serve):
    def answer(told):
        if "prompt" in told:
            return 200, {"id": "1", "choices": [{"index": 0, "finish_reason": "stop", "text": "no"}]}
        return chat("no, and\n\nno")

    server = serve(answer)
    agent = Endpoint(server.url, "m", prompt="Be brief.")
    samples = make("task", "lm-eval/ifeval?chat=1&tokens=9").evaluate(agent, 3)
    assert [sample.said for sample in samples] == ["no, and\n\nno"] * 3
    assert [[each["role"] for each in told["messages"]] for _, told, _ in server.asked] == [["system", "user"]] * 3
    assert {told["max_tokens"] for _, told, _ in server.asked} == {9}
    server.asked.clear()
    assert [sample.said for sample in make("task", "lm-eval/ifeval").evaluate(agent, 2)] == ["no"] * 2
    assert {path for path, _, _ in server.asked} == {"/v1/completions"}
    with pytest.raises(Refused, match="hellaswag is scored by likelihoods, which Endpoint does not tell; choose tasks"):
        make("task", "lm-eval/hellaswag").evaluate(agent, 2)


def test_it_cannot_be_adapted_and_demonstrates_under_a_named_base_only(serve, tmp_path, razorbench):
    server = serve(lambda told: chat("9 - 2 = 7. \\boxed{7}"))
    name = f"{server.url}#m"
    assert not isinstance(named_policy(name, tmp_path)[0], Policy)
    with pytest.raises(Refused, match="it can be asked and not adapted"):
        named_policy(name, tmp_path)[0].copy()  # type: ignore[attr-defined]
    asks = ("demonstrations", "mini-math-v1", "--from", name, "--home", tmp_path, "--items", 64, "--samples", 1)
    assert "name the model under which distance is measured with --base" in razorbench(*asks).sentence
    ran = razorbench(*asks, "--base", "mini-lm-v1", "--json")
    told = json.loads(ran.out)
    assert ran.code == 0
    assert told["drawn"] == 64
    assert 0 < told["solved"] < 64
    line = json.loads(Path(told["file"]).read_text().splitlines()[0])
    assert line["messages"][-1] == {"role": "assistant", "content": "9 - 2 = 7. \\boxed{7}"}


def test_a_track_s_file_may_name_one_and_is_told_what_cannot_be(tmp_path, razorbench):
    ours = (Path(__file__).parent.parent / "harness/tracks/ours/mini-math-v1.toml").read_text()
    file = tmp_path / "track.toml"
    named = (
        '[base]\nid = "served-v1"\nagent = "openai-api-v1"\n[base.origin]\nurl = "http://localhost:1/v1"\nmodel = "m"\n'
    )
    told = ours.replace('base = "mini-lm-v1"\n', "").replace('id = "mini-math-v1"', 'id = "served-math-v1"')
    file.write_text(f"{told}\n{named}")
    track = find_track(str(file), tmp_path)
    assert isinstance(track.base.origin, Served)
    assert track.base.origin.told == "http://localhost:1/v1#m"
    assert "nothing to fetch or to copy" in razorbench("base", file, "--home", tmp_path).sentence
    assert "nobody here knows its weights" in razorbench("track", "check", file, "--home", tmp_path).out
    ran = razorbench("adapt", file, "--method", "sft", "--out", tmp_path / "out", "--home", tmp_path)
    assert "it can be asked and not adapted" in ran.sentence


# --- a real server ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """`transformers serve` with the small language model; its address with the name, and the model's folder."""
    folder = tmp_path_factory.mktemp("served") / "model"
    copy_into(folder, base_files(TRACKS["mini-math-v1"].base, folder.parent))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [Path(sys.executable).with_name("transformers"), "serve", folder, "--port", str(port), "--device", "cpu"],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        for _ in range(1200):
            try:
                urlopen(f"http://localhost:{port}/health").read()
                break
            except URLError:
                assert server.poll() is None, server.communicate()[0].decode()
                time.sleep(0.1)
        yield f"http://localhost:{port}/v1#{folder}", folder
    finally:
        server.kill()
        server.communicate()


@pytest.mark.long
def test_a_real_server_says_what_the_model_says_here(served, tmp_path):
    name, folder = served
    there, here = (named_policy(each, tmp_path, {"limit": 48})[0] for each in (name, str(folder)))
    task = make("task", "mini-math-v1")
    some = task.instances("test").first(16)
    said = [rollout(agent, task, some, temperature=0.0) for agent in (there, here)]
    done = [played.turns[0].done for played in said]
    texts = [[(str(each), each.finished) for each in actions.value] for actions in done if actions]
    assert texts[0] == texts[1]
    assert np.array_equal(said[0].reward, said[1].reward)
    assert 0 < said[0].reward.mean() < 1


@pytest.mark.long
def test_models_are_compared_with_an_endpoint_on_either_side(served, data, tmp_path, razorbench):
    name, folder = served
    asks = ("--new", "mini-math-v1", "--priors", "mini-sorting-v1", "--items", 6, "--home", tmp_path)
    for base, adapted in ((folder, name), (name, folder), (name, name)):
        ran = razorbench("compare", base, adapted, *asks)
        assert ran.code == 0
        assert "Nothing tells the two models apart" in ran.out
        assert "Retention on one prior: +0.0" in ran.out
        assert f"{name} is known by address and name alone" in ran.out
        assert "No drift: Endpoint tells no probabilities." in ran.out
    assert (
        "is scored by likelihoods"
        in razorbench(
            "compare", folder, name, "--priors", "lm-eval/winogrande", "--items", 4, "--home", tmp_path
        ).sentence
    )

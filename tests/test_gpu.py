"""The script for a GPU, in its small form on the processor."""

import sys

import pytest

from benchmarks import gpu


@pytest.mark.slow(seconds=6)
def test_the_script_for_a_gpu_goes_its_whole_way(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu", "--tiny"])
    gpu.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    told = {row[0].strip("| "): row[1] for row in rows}
    assert len(told) == 8
    for what in (
        "4 replies of 8 tokens, own loop",
        "a Dr. GRPO step of 4 × 8, all weights",
        "OpenVLA, 2 pictures at once",
    ):
        assert float(told[what].split()[0].replace(",", "")) > 0
    assert float(told["a REINFORCE step by adapters of rank 32"].split()[0].replace(",", "")) > 0


def test_where_no_time_is_left_nothing_is_begun(capsys):
    rows = gpu.Rows("cpu", minutes=-1.0)
    rows.take("what takes long", lambda: 1 / 0, "tokens/s")
    assert "| what takes long | no time left |" in capsys.readouterr().out


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu"])
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main()
    assert "this machine has no GPU; --tiny runs the same with small shapes" in capsys.readouterr().err

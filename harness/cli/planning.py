"""The command that says what runs will take before they are begun: plan."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from razorbench.harness.cli.arguments import HOME, UNCHANGED, Changes, Computed, Home, Json, Name
from razorbench.harness.cli.scoring import runs_of
from razorbench.harness.cli.terminal import busy, listing, out, say
from razorbench.harness.core.errors import Refused
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.learn.settings import Settings
from razorbench.harness.tracks.catalogue import find_track
from razorbench.harness.tracks.spec import Track
from razorbench.harness.tracks.variants import settings_for

if TYPE_CHECKING:  # it loads torch
    from razorbench.harness.runs.planning import Plan, Planner
    from razorbench.harness.runs.run import Spec


def plan(
    track: Name,
    *,
    method: str = "",
    methods: str = "",
    preset: str = "",
    grid: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (0,),
    settings: Changes = UNCHANGED,
    runtime: Computed = AUTO,
    gpu: str = "",
    share: float = 0.4,
    reply: int = 0,
    price: float = 0.0,
    calibration: float = 60.0,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Say what adapting and scoring will take before anything runs: time, tokens, memory, disk, and what it costs.

    Measured on this machine in about a minute, with the track's own base; or counted for a GPU that is not at hand.

    Args:
        track: Id of the track, or its file, which ends in .toml.
        method: Id of the method, for one run.
        methods: Of a sweep, as `razorbench sweep` takes them, with grid and seeds.
        preset: A sweep that the track's file names, such as paper.
        grid: Values to try, as in lr=1e-5,1e-4 schedule=constant,cosine.
        seeds: Seeds, as in 0 1 2.
        settings: What is not named is as the track has it.
        runtime: How the model is computed.
        gpu: A GPU that is not at hand: a100, h100, h200, l40s or l4. Its work is counted; no weights are needed.
        share: What of that GPU's published operations and bandwidth is reached; an assumption.
        reply: Tokens of a reply, where they are counted; 0: as many as it may have.
        price: What an hour of the processor, or of the GPU, costs.
        calibration: Seconds of measuring.
    """
    chosen = find_track(track, home)
    if bool(method) == bool(methods or preset):
        raise Refused("say what is planned: one run with --method, or a sweep with --methods or --preset")
    if not (0 < share <= 1 and price >= 0 and reply >= 0 and calibration > 0):
        raise Refused("share is above 0 and at most 1, calibration above 0, price and reply at least 0")
    from razorbench.harness.runs.clocks import find_device
    from razorbench.harness.runs.run import Spec

    if not method:
        specs = runs_of(chosen, methods, preset, grid, seeds)
    else:
        whole = settings if isinstance(settings, Settings) else settings_for(chosen, **settings)
        specs = [Spec(method, whole, seed) for seed in seeds]
        specs[0].check(chosen.settings)
    with busy("measuring"):
        planner, assumed = ready(chosen, home, runtime, gpu, share, reply, calibration)
        planned = [planner.plan(spec, begins=not at or bool(method), asks_base=not at) for at, spec in enumerate(specs)]
    if gpu and (most := planned[0].memory["most"]) > (there := find_device(gpu).memory):
        assumed.append(
            f"several devices, for {most / 1e9:.0f} GB do not fit into {there / 1e9:.0f}; it is less with --lora, "
            "--checkpointing or a smaller --micro-batch, and --shard shares it among processes"
        )
    show(chosen, specs, planned, assumed, gpu or planner.device, price, json)


def ready(
    track: Track, home: Path, runtime: Runtime, gpu: str, share: float, reply: int, calibration: float
) -> "tuple[Planner, list[str]]":
    """What plans the runs of a track, on this machine or for a GPU by its name; and what it assumes, in words."""
    from razorbench.harness.measure.score import Bench
    from razorbench.harness.runs.clocks import find_device, on_gpu, processors
    from razorbench.harness.runs.planning import Planner
    from razorbench.harness.tracks.bases import shaped

    if not gpu:
        bench = Bench(track, home, runtime)
        here = next(bench.base.parameters()).device.type
        clock = on_gpu if here == "cuda" else processors
        _ = bench.base_id, bench.data  # as each command does before it begins
        begun = processors()
        return Planner(bench, clock, effort=clock, begun=begun, calibration=calibration), []
    device = find_device(gpu)
    dtype = "bfloat16" if runtime.dtype == "auto" else runtime.dtype
    base = shaped(track.base, home, track.conditions.options, runtime, reply)

    def counted() -> float:
        return sum(device.seconds(piece, dtype, share) for piece in base.pieces_of_work)

    bench = Bench(track, home, base=base)
    assumed = [
        f"{device.about}: {device.bfloat16 / 1e12:,.0f} TFLOP/s in bf16, {device.float32 / 1e12:,.0f} in float32, "
        f"{device.bandwidth / 1e12:.2f} TB/s and {device.memory / 1e9:.0f} GB as published, of which {share:.0%} of "
        "operations and bandwidth are reached",
        f"replies of {reply or bench.conditions['limit']} tokens{'' if reply else ', all that they may have'}",
        "every answer carries a weight; processors, loading and writing take no time",
    ]
    return Planner(bench, counted, calibration=calibration), assumed


def show(
    track: Track,
    specs: "Sequence[Spec]",
    planned: "Sequence[Plan]",
    assumed: Sequence[str],
    device: str,
    price: float,
    json: bool,
) -> None:
    """Print plans, that of the first run part by part."""
    first = planned[0]
    unit = "processor" if device == "cpu" else "GPU"
    hours = {stage: sum(each.seconds(stage) for each in planned) / 3600 for stage in ("adapt", "score")}
    total = sum(hours.values())
    row: dict[str, Any] = {
        "track": track.id,
        "device": device,
        "runs": len(planned),
        "hours": {**hours, "all": total},
        "tokens": {stage: sum(each.elements(stage) for each in planned) for stage in ("adapt", "score")},
        "memory": first.memory,
        "disk": max(each.disk for each in planned),
        "price": price * total,
        "assumed": list(assumed),
        "plans": [
            {
                "method": each.method,
                "settings": spec.label(track.settings),
                "seed": spec.seed,
                "steps": each.steps,
                "seconds": {stage: each.seconds(stage) for stage in ("adapt", "score")},
                "parts": [told(part) for part in each.parts],
            }
            for spec, each in zip(specs, planned, strict=True)
        ],
    }
    if json:
        say(row, json, "")
        return
    listing([{**told(part), "seconds": round(part.seconds, 1)} for part in first.parts], False)
    many = f"{len(planned)} runs, of which the table shows the first: " if planned[1:] else ""
    elements = row["tokens"]
    out.print(
        f"{many}adapting {hours['adapt']:.3g}, scoring {hours['score']:.3g}, together {total:.3g} {unit}-hours; "
        f"{elements['adapt']:,.0f} tokens, bins or classes are learned from and {elements['score']:,.0f} scored, as "
        "far as tasks tell.",
        highlight=False,
        soft_wrap=True,
    )
    held = ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in first.memory.items())
    out.print(f"Memory: {held}. Disk: at most {row['disk'] / 1e9:.2f} GB a run.", highlight=False, soft_wrap=True)
    if price:
        out.print(f"At {price:g} an hour: {price * total:,.2f}.", highlight=False)
    for sentence in assumed:
        out.print(f"Assumed: {sentence}.", highlight=False, soft_wrap=True)


def told(part: Any) -> dict[str, Any]:
    """A part of a plan as a row; what is not known is left empty."""
    elements = None if part.elements != part.elements else round(part.elements)
    return {**vars(part), "elements": elements}

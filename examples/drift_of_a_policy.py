"""How far has a policy moved from its base, both ways: on the new task, and on a prior one that it was never shown?"""

from pathlib import Path

from razorbench import adapt, find_track
from razorbench.harness.core.registry import make
from razorbench.harness.measure.drift import forward_kl, reverse_kl
from razorbench.harness.measure.score import Bench

bench = Bench(find_track("mini-science-v1"), Path(".razorbench"))
adapted = bench.base.copy()
adapted.load(adapt(bench.track, "sft", "made/science", steps=8).weights)
for id in ("mini-science-v1", "mini-logic-v1"):
    task = make("task", id)
    some = task.instances("test").first(20)
    forward, reverse = (kl(bench.base, adapted, task, some).nats.mean() for kl in (forward_kl, reverse_kl))
    print(f"{id}: forward KL {forward:.3g}, reverse KL {reverse:.3g} nats an episode")

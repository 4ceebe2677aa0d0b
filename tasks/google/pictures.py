"""The google robot's tasks with pictures of the camera on its head, 640 by 512, beside the state; they need Vulkan."""

from dataclasses import replace

from razorbench import versions
from razorbench.tasks.google import tasks
from razorbench.tasks.google.facts import PIXELS


def pictured(task: type[tasks.Google]) -> type[tasks.Google]:
    """The same task, seen through the camera as well."""
    assert task.card.protocol
    width, height = PIXELS
    protocol = replace(
        task.card.protocol,
        renderer=f"SAPIEN's rasteriser ({versions('sapien')}), the real scene's picture behind what is simulated",
        cameras={tasks.CAMERA: f"{height}x{width}"},
    )
    return type(f"{task.__name__}Pictures", (task,), {"seen": True, "card": replace(task.card, protocol=protocol)})


Upright, Lengthwise, Crosswise = map(pictured, (tasks.Upright, tasks.Lengthwise, tasks.Crosswise))
OpenTop, OpenMiddle, OpenBottom = map(pictured, (tasks.OpenTop, tasks.OpenMiddle, tasks.OpenBottom))
CloseTop, CloseMiddle, CloseBottom = map(pictured, (tasks.CloseTop, tasks.CloseMiddle, tasks.CloseBottom))

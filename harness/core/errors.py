"""What is raised when the user, the data or the world is at fault."""


class Refused(Exception):
    """What the user gave cannot be used. The message says what was found and, in one sentence, the cure."""


class Missing(Refused):
    """Data are not at hand, and not to be had. The message says where they are looked for."""


class WorldFailed(Exception):
    """The world failed, whoever plays: a simulator that died, say. Raised in `play`, it leaves the episode unscored."""

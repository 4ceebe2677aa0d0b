"""Simulators that take a gigabyte each: the last one is kept, and a batch is played one episode after another."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from razorbench import Column, Instance, Instances, Observations, Outcome, Outcomes, Refused


class Closable(Protocol):
    """What can be given back."""

    def close(self) -> None:
        """Give back what it holds."""
        ...


S = TypeVar("S", bound=Closable)


class Pool(Generic[S]):
    """The simulator that was used last, until one of another kind is wanted."""

    def __init__(self, make: Callable[..., S]):
        """`make` builds a simulator of a kind."""
        self.make = make
        self.kept: list[tuple[tuple[object, ...], S]] = []
        """None, or one with its kind."""

    @contextmanager
    def lent(self, *kind: object) -> Iterator[S]:
        """A simulator that nobody else uses; one in which something was raised is not used again."""
        if not (self.kept and self.kept[0][0] == kind):
            self.dismiss()
        simulator, sound = self.kept.pop()[1] if self.kept else self.make(*kind), True
        try:
            yield simulator
        except Exception:
            sound = False
            raise
        finally:  # also where the episode was not played to its end: the next one begins anew
            self.dismiss()
            if sound:
                self.kept.append((kind, simulator))
            else:
                simulator.close()

    def dismiss(self) -> None:
        """Close what is kept."""
        while self.kept:
            self.kept.pop()[1].close()


def one_by_one(
    instances: Instances, play: Callable[[Instance, int], Generator[Observations, Column, Outcome]]
) -> Generator[Observations, Column, Outcomes]:
    """The episodes of a batch, each played by `play` as its row. What one raises is the world's failure: unscored."""
    ends = []
    for i, instance in enumerate(instances):
        try:
            ends.append((yield from play(instance, i)))
        except Refused:
            raise
        except Exception as error:
            ends.append(Outcome.unscored(f"{type(error).__name__}: {error}"))
    return Outcomes.stack(ends)

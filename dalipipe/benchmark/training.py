"""A network beside its loader: what each gives alone, what both give together, and which one limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from dalipipe.benchmark.meter import Spread, Stretch

Part = Literal["model", "loader", "both"]
PARTS: tuple[Part, ...] = ("model", "loader", "both")
_SHARED = 0.8


@dataclass(frozen=True)
class Training:
    """What was found about training a network from a loader.

    Attributes:
        model: Name of the network.
        device: Where it ran.
        loader: The subject that fed it.
        rounds: The timed stretches of each part: "model" (one batch, replayed), "loader" (nothing is done with the
            images) and "both".
    """

    model: str
    device: str
    loader: str
    rounds: dict[Part, tuple[Stretch, ...]]

    def img_per_s(self, part: Part) -> Spread:
        """Images per second of a part over the rounds."""
        return Spread.of([stretch.img_per_s for stretch in self.rounds[part]])

    @property
    def limit(self) -> Literal["model", "loader", "sharing"]:
        """What limits: the slower of the two, or that both together are far slower than the slower one alone."""
        model, loader, both = (self.img_per_s(part).median for part in PARTS)
        if both < _SHARED * min(model, loader):
            return "sharing"
        return "model" if model <= loader else "loader"

    @property
    def verdict(self) -> str:
        """A sentence that says which one limits, and what would help."""
        model, loader, both = (self.img_per_s(part).median for part in PARTS)
        if self.limit == "model":
            first = "A GPU" if self.device == "cpu" else "Mixed precision"
            return (
                f"The model limits: {self.loader} could feed {loader / model:.1f} times as much. {first}, a smaller "
                "network or smaller images would help; a faster loader would not."
            )
        if self.limit == "loader":
            return (
                f"The loader limits: the model could take {model / loader:.1f} times as much. More threads, "
                'cache="ram", images stored no larger than needed, or dali-gpu on a GPU would help; a faster model '
                "would not."
            )
        return (
            f"Sharing limits: together they reach {both / min(model, loader):.0%} of what the slower one does alone, "
            'since both want the same CPUs. More cores, cache="ram" or a GPU would help.'
        )

    def plain(self) -> dict[str, Any]:
        """Return everything as it goes into JSON."""
        speeds = {part: self.img_per_s(part) for part in PARTS}
        return {
            "model": self.model,
            "device": self.device,
            "loader": self.loader,
            "img_per_s": {part: vars(spread) for part, spread in speeds.items()},
            "rounds": {part: [vars(stretch) for stretch in self.rounds[part]] for part in PARTS},
            "limit": self.limit,
            "verdict": self.verdict,
        }


def train_in_turns(
    ask: Callable[[Part, float], Stretch], repetitions: int, seconds: float, notify: Callable[[str], None]
) -> dict[Part, tuple[Stretch, ...]]:
    """Time each part so many times, in turns, after one batch of each that does not count.

    Args:
        ask: Times a part for so many seconds.
        repetitions: Timed stretches of each.
        seconds: Shortest duration of a stretch, after its first batch.
        notify: Told of each step.
    """
    rounds: dict[Part, tuple[Stretch, ...]] = dict.fromkeys(PARTS, ())
    for repetition in range(repetitions + 1):
        for part in PARTS:
            notify(f"{part}: warming up" if not repetition else f"{part}: repetition {repetition} of {repetitions}")
            stretch = ask(part, seconds if repetition else 0.0)
            if repetition:
                rounds[part] += (stretch,)
    return rounds

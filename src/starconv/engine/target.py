"""What the engine knows of the processor it generates code for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A processor as the emitters see it (filled in by the emit layer)."""

    name: str

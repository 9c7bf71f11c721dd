"""The sections of the tour, a file each.

A new section is a file with a ``SECTION`` (title, code, what is drawn of its results) and a row in :data:`SECTIONS`.
"""

from ..section import Section
from . import (
    bias,
    definition,
    edges,
    field,
    gradient,
    inside,
    layer,
    matrix,
    outlines,
    photograph,
    sizes,
    template,
    training,
)

__all__ = ["SECTIONS"]

SECTIONS: tuple[Section, ...] = (
    definition.SECTION,
    template.SECTION,
    edges.SECTION,
    photograph.SECTION,
    sizes.SECTION,
    layer.SECTION,
    field.SECTION,
    matrix.SECTION,
    gradient.SECTION,
    training.SECTION,
    inside.SECTION,
    outlines.SECTION,
    bias.SECTION,
)
"""In the order of the page, after the picture; a section may use what those before it computed."""

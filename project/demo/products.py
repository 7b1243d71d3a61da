"""The demo shop's products: generated from word lists, the same on every machine."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

EDITION = 1
"""Increase it with any change to ``products``: the index file is named after it."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COLORS = _words("red green blue yellow black white grey brown orange purple turquoise ivory")
FINISHES = ("plain", "striped", "hand-made", "polished", "patterned")
PLACES = ("by the window", "in a small flat", "out of doors", "for guests", "for every day")
CARE = ("Wipe it with a damp cloth.", "Keep it dry.", "It grows better with age.")


class Room(NamedTuple):
    """The materials and the things of one room."""

    name: str
    materials: tuple[str, ...]
    things: tuple[str, ...]


class Product(NamedTuple):
    number: int
    title: str
    text: str


ROOMS = (
    Room(
        "kitchen",
        _words("steel copper enamel ceramic glass stoneware"),
        _words("kettle bowl jug pan plate cup pot tray jar ladle teapot colander mug dish"),
    ),
    Room(
        "bedroom",
        _words("wool cotton linen felt silk velvet"),
        _words(
            "blanket cushion curtain rug throw pillow quilt sheet towel robe slipper canopy "
            "bedspread bolster"
        ),
    ),
    Room(
        "living room",
        _words("oak pine walnut beech birch bamboo"),
        _words(
            "chair table sofa shelf bench stool desk cabinet lamp frame clock mirror chest bookcase"
        ),
    ),
    Room(
        "hall",
        _words("leather canvas straw denim jute cork"),
        _words("bag hat belt coat basket mat case satchel cap boot glove scarf purse umbrella"),
    ),
)


def products() -> Iterator[Product]:
    """Yield the 4,032 products, always in the same order."""
    kinds = (
        (room, material, thing, color)
        for room in ROOMS
        for material, thing, color in product(room.materials, room.things, COLORS)
    )
    for number, (room, material, thing, color) in enumerate(kinds, start=1):
        partner = room.things[(number * 5 + 3) % len(room.things)]
        text = (
            f"A {FINISHES[number % len(FINISHES)]} {thing} of {material} in {color}, "
            f"for the {room.name}. It does well {PLACES[number * 3 % len(PLACES)]}, "
            f"and goes with a {COLORS[number * 7 % len(COLORS)]} {partner}. "
            f"{CARE[number % len(CARE)]}"
        )
        yield Product(number, f"{color.capitalize()} {material} {thing}", text)

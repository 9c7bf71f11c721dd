"""Squares of elements with rows and columns exchanged, in as few shuffles as each kind of processor needs."""

from collections.abc import Sequence

from .values import ITEMSIZES, Pointer, Vector

__all__ = ["loaded_transposed", "transposed"]


def transposed(rows: Sequence[Vector]) -> list[Vector]:
    """n vectors of n lanes with rows and columns exchanged, in log2(n) rounds of n shuffles.

    First within groups of 128 bits, then whole groups: shuffles of both kinds are one instruction on every target.
    """
    lanes = rows[0].lanes
    assert len(rows) == lanes
    size = min(lanes, 16 // ITEMSIZES[rows[0].element])
    starts = range(0, lanes, size)

    def within(a: Vector, b: Vector, picked: Sequence[int]) -> Vector:
        """Per group, these lanes: below `size` of a, above of b."""
        return a.shuffled(b, [start + (i if i < size else lanes - size + i) for start in starts for i in picked])

    columns = []  # per block of `size` rows and column of a group: what its groups hold of this column
    for start in starts:
        block = list(rows[start : start + size])
        if size == 4:  # rows 0 and 1, 2 and 3 interleaved, then their halves
            low, high = (0, 4, 1, 5), (2, 6, 3, 7)
            halves = [[within(a, b, half) for a, b in (block[:2], block[2:])] for half in (low, high)]
            block = [within(a, b, picked) for a, b in halves for picked in ((0, 1, 4, 5), (2, 3, 6, 7))]
        elif size == 2:
            block = [within(block[0], block[1], picked) for picked in ((0, 2), (1, 3))]
        columns.append([_separate(vector) for vector in block] if lanes == 16 else block)
    found: list[Vector] = [rows[0]] * lanes
    for j in range(size):
        blocks = [block[j] for block in columns]
        step = 1
        while step < len(blocks):  # every second group of two vectors, then the others
            for i in (i for i in range(len(blocks)) if not i & step):
                a, b = blocks[i], blocks[i + step]
                blocks[i], blocks[i + step] = (
                    a.shuffled(b, [2 * size * g + part * size + k for g in range(len(starts)) for k in range(size)])
                    for part in range(2)
                )
            step *= 2
        for group, vector in enumerate(blocks):
            found[group * size + j] = vector
    return found


def loaded_transposed(rows: Sequence[Pointer]) -> list[Vector]:
    """The n x n elements at n addresses, with rows and columns exchanged.

    Registers of two halves are loaded half by half, row i beside row i + n / 2: then no element has to change sides,
    and 8x8 takes 16 shuffles where `transposed` takes 48.
    """
    lanes, itemsize = len(rows), ITEMSIZES[rows[0].element]
    if lanes * itemsize != 32:
        return transposed([row.load(lanes) for row in rows])
    half = lanes // 2
    low = [lane for i in range(half // 2) for lane in (i, i + lanes)]
    low = low + [lane + half for lane in low]
    high = [lane + half // 2 for lane in low]
    columns: list[Vector] = []
    for side in (0, half):
        square = [
            rows[i].at(side).load(half).shuffled(rows[i + half].at(side).load(half), range(lanes)) for i in range(half)
        ]
        for _ in range(half.bit_length() - 1):
            pairs = range(half // 2)
            square = [square[i].shuffled(square[i + half // 2], mask) for i in pairs for mask in (low, high)]
        columns += square
    return columns


def _separate(vector: Vector) -> Vector:
    """The same vector of 16 lanes, by way of an empty instruction, where it is one register of AVX-512.

    LLVM tries to merge shuffles of shuffles: in the four rounds of 16 lanes it finds nothing in 8 ms, in two and two in
    2. The empty instruction costs the kernel nothing.
    """
    f = vector.function
    if f.target.name != "avx512" or vector.element != "float":
        return vector
    text = f.emit(f'call {vector.type} asm "", "=v,0"({vector.type} {vector.text})')
    return Vector(f, text, vector.element, vector.lanes)

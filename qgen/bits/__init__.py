"""Models on the bits of events: sets of bits, cells, gates, and the discrepancy of Z strings."""

from qgen.bits.generator import BitGenerator, bit_strings
from qgen.bits.sets import BitSets

__all__ = ["BitGenerator", "BitSets", "bit_strings"]

"""Models on the bits of events: sets of bits, cells, gates, and the discrepancy of Z strings."""

from qgen.bits.generator import BitGenerator, bit_strings
from qgen.bits.sets import BitSets
from qgen.bits.string_generator import StringGenerator

__all__ = ["BitGenerator", "BitSets", "StringGenerator", "bit_strings"]

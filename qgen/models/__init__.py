"""The quantum generators."""

from qgen.models.born_machine import BornMachine

__all__ = ["BornMachine"]

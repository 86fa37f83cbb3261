"""Programs of optical modes to and from Blackbird, the text format of Strawberry Fields.

Its gates mean the same as ours; ``LossChannel`` has the same transmissivity, that of photons. Only ``Xgate`` and
``Zgate`` depend on the hbar of the quadratures. Template parameters are entries of the parameter vector.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from circuits.cv.arguments import positive
from circuits.cv.blackbird_expressions import Expressions, Tokens
from circuits.cv.blackbird_operations import FROM_GATES, PREPARATIONS, gates_of, photons_of
from circuits.cv.gates import CVGate, Parameter
from circuits.cv.program import Program

__all__ = ["from_blackbird", "to_blackbird"]

_MOST_STATEMENTS = 100_000
_TYPES = {"int": int, "float": float, "complex": complex, "str": str, "bool": bool}
_RESERVED = (*_TYPES, "array", "name", "version", "target", "type", "include", "for", "in", "pi", "True", "False")


def to_blackbird(program: Program, name: str = "program") -> str:
    """The program as Blackbird text; entry ``i`` of its parameter vector is the template parameter ``{ai}``.

    (Names like ``p0`` are reserved there.)

    Args:
        program: the program.
        name: what the text calls it.

    Raises:
        ValueError: a name that Blackbird does not allow.

    >>> gate = CVGate("Beamsplitter", (0, 1), (Parameter(0, 0.5), 0.25))
    >>> print(to_blackbird(Program(2, [gate], photons=[1, 0])).rstrip())
    name program
    version 1.0
    <BLANKLINE>
    Fock(1) | 0
    BSgate(0.5*{a0}, 0.25) | [0, 1]
    """
    if not re.fullmatch("[A-Za-z][0-9A-Za-z_]*", name) or name in _RESERVED or re.fullmatch("q[0-9]+", name):
        raise ValueError(
            f"name is {name!r}; letters, digits and _ after a letter are allowed, and no word of Blackbird"
        )
    lines = [f"name {name}", "version 1.0", ""]
    named = {mode for gate in program.gates for mode in gate.modes}
    for mode, photons in enumerate(program.photons):
        if photons:
            lines.append(f"Fock({photons}) | {mode}")
        elif mode == program.n_modes - 1 and mode not in named:
            lines.append(f"Vacuum() | {mode}")
    for gate in program.gates:
        modes = str(gate.modes[0]) if len(gate.modes) == 1 else str(list(gate.modes))
        lines.append(f"{FROM_GATES[gate.name]}({', '.join(map(_text, gate.parameters))}) | {modes}")
    return "\n".join(lines) + "\n"


def _text(slot: Parameter) -> str:
    if slot.index is None:
        return repr(slot.offset)
    text = f"{{a{slot.index}}}" if slot.scale == 1 else f"{slot.scale!r}*{{a{slot.index}}}"
    return text if slot.offset == 0 else f"{text} {'-' if slot.offset < 0 else '+'} {abs(slot.offset)!r}"


def from_blackbird(text: str, hbar: float = 2.0) -> Program:
    """A program from Blackbird text.

    Variables, arrays, arithmetic and ``for`` loops are understood. States are prepared before the first gate on their
    mode, and measurements at the end are dropped. Where all template parameters are named as :func:`to_blackbird` names
    them, their numbers are their places in the parameter vector; others have the order in which they appear.

    Args:
        text: the whole text.
        hbar: of the quadratures that ``Xgate`` and ``Zgate`` move.

    Raises:
        ValueError: anything else; the line gives its number.

    >>> text = "name loop\\nversion 1.0\\nfor int m in 0:3\\n    Sgate({r}/2, pi) | m\\n"
    >>> [str(gate) for gate in from_blackbird(text).gates]
    ['Squeezing(0.5*a0, 3.142) [0]', 'Squeezing(0.5*a0, 3.142) [1]', 'Squeezing(0.5*a0, 3.142) [2]']
    """
    reader = _Reader(positive(hbar, "hbar"))
    lines = re.split("\r\n|\r|\n", text)
    number = 0
    try:
        while number < len(lines):
            number += reader.read(lines, number)
        reader.end()
    except (ValueError, ArithmeticError, RecursionError) as error:
        reason = "expressions are nested too deeply" if isinstance(error, RecursionError) else error
        place = min(number + reader.ahead, len(lines) - 1) + 1
        raise ValueError(f"Blackbird, line {place}: {' '.join(str(reason).split())}") from error
    return reader.program()


class _Reader:
    """What has been read of a text."""

    def __init__(self, hbar: float) -> None:
        self.hbar = hbar
        self.header: list[str] = []
        self.names: list[str] = []
        self.variables: dict[str, Any] = {}
        self.gates: list[CVGate] = []
        self.photons: dict[int, int] = {}
        self.used: set[int] = set()
        self.measured: set[int] = set()
        self.ahead = 0
        self.expressions = Expressions(self.variables, self._parameter)

    def read(self, lines: list[str], number: int) -> int:
        """The statement that begins in a line; how many lines it takes."""
        self.ahead = 0
        tokens = Tokens(lines[number])
        if not tokens.kind:
            return 1
        if _indented(lines[number]):
            raise ValueError("the line is indented, and belongs to no array and no loop")
        if len(self.header) < 2:
            self._header(tokens)
            return 1
        word = tokens.next
        if word == "for":
            return self._loop(tokens, lines, number)
        if word in _TYPES:
            return self._variable(tokens, lines, number)
        if word == "target" and not self.used:
            return 1
        if word in ("include", "type", "target", "name", "version"):
            raise ValueError(f"{word!r} cannot be imported here")
        self._statement(tokens)
        return 1

    def end(self) -> None:
        """A ``ValueError`` unless there was something to read."""
        if len(self.header) < 2:
            raise ValueError("the text ends before its 'version' line")
        if not self.used:
            raise ValueError("the text has no modes")

    def program(self) -> Program:
        """All that was read."""
        n_modes = max(self.used) + 1
        photons = [self.photons.get(mode, 0) for mode in range(n_modes)]
        found = Program(n_modes, self.gates, len(self.names), photons)
        if all(re.fullmatch("a(0|[1-9][0-9]{0,5})", name) for name in self.names):
            return found.remap(parameters=[int(name[1:]) for name in self.names])
        return found

    def _parameter(self, name: str) -> Parameter:
        if name not in self.names:
            self.names.append(name)
        return Parameter(self.names.index(name))

    def _header(self, tokens: Tokens) -> None:
        wanted = ("name", "version")[len(self.header)]
        tokens.take(wanted)
        value = tokens.take(kind="name" if wanted == "name" else "number")
        tokens.end()
        if wanted == "version" and value != "1.0":
            raise ValueError(f"version is {value}; 1.0 is allowed")
        self.header.append(value)

    def _variable(self, tokens: Tokens, lines: list[str], number: int) -> int:
        kind = tokens.take(*_TYPES)
        array = tokens.accept("array")
        name = tokens.take(kind="name")
        if name in _RESERVED or re.fullmatch("q[0-9]+", name):
            raise ValueError(f"{name!r} cannot be the name of a variable")
        if not array:
            tokens.take("=")
            value = self.expressions.value(tokens)
            tokens.end()
            self.variables[name] = _typed(kind, value)
            return 1
        shape = tuple(self._list(tokens, "]")) if tokens.accept("[") else None
        tokens.take("=")
        tokens.end()
        rows: list[list[Any]] = []
        while number + len(rows) + 1 < len(lines) and _indented(lines[number + len(rows) + 1]):
            self.ahead = len(rows) + 1
            line = Tokens(lines[number + self.ahead])
            row = [_typed(kind, value) for value in self._list(line, "")]
            if any(isinstance(value, Parameter) for value in row):
                raise ValueError(f"array {name!r} holds a template parameter; numbers are needed")
            if rows and len(row) != len(rows[0]):
                raise ValueError(f"a row of {name!r} has {len(row)} values; the first has {len(rows[0])}")
            rows.append(row)
        self.ahead = 0
        if not rows or (shape is not None and shape != (len(rows), len(rows[0]))):
            raise ValueError(f"array {name!r} has {len(rows)} rows; {shape or 'one at least'} is needed")
        self.variables[name] = np.array(rows)
        return len(rows) + 1

    def _list(self, tokens: Tokens, close: str) -> list[Any]:
        found = [self.expressions.value(tokens)]
        while tokens.accept(","):
            found.append(self.expressions.value(tokens))
        if close:
            tokens.take(close)
        else:
            tokens.end()
        return found

    def _loop(self, tokens: Tokens, lines: list[str], number: int) -> int:
        tokens.take("for")
        kind = tokens.take(*_TYPES)
        name = tokens.take(kind="name")
        tokens.take("in")
        if tokens.accept("[", "("):
            values: Any = self._list(tokens, "]" if tokens.kinds[tokens.place - 1][1] == "[" else ")")
        else:
            values = [self.expressions.value(tokens)]
            separator = "," if tokens.next == "," else ":"
            while tokens.accept(separator):
                values.append(self.expressions.value(tokens))
            if separator == ":":
                if not 2 <= len(values) <= 3 or not all(type(value) is int for value in values):
                    raise ValueError("a range is from:to or from:to:step, all of them integers")
                values = range(*values)
        tokens.end()
        body = number + 1
        while body < len(lines) and _indented(lines[body]):
            body += 1
        if body == number + 1:
            raise ValueError("the loop has no indented lines")
        if len(values) * (body - number - 1) > _MOST_STATEMENTS:
            raise ValueError(f"the loop has more than {_MOST_STATEMENTS} statements")
        if name in self.variables:
            raise ValueError(f"{name!r} is a variable already")
        for value in values:
            self.variables[name] = _typed(kind, value)
            for inner in range(number + 1, body):
                self.ahead = inner - number
                self._statement(Tokens(lines[inner]))
        self.variables.pop(name, None)
        self.ahead = 0
        return body - number

    def _statement(self, tokens: Tokens) -> None:
        if not tokens.kind:
            return
        name = tokens.take(kind="name")
        values, named = self._arguments(tokens) if tokens.accept("(") else ([], {})
        tokens.take("|")
        closing = {"[": "]", "(": ")"}.get(tokens.next, "")
        if closing:
            tokens.take("[", "(")
        modes = self._list(tokens, closing)
        tokens.end()
        if not all(type(mode) is int and 0 <= mode < 10_000 for mode in modes):
            raise ValueError(f"modes of {name} are {modes}; integers from 0 to 9999 are needed")
        self._apply(name, tuple(modes), values, named)

    def _arguments(self, tokens: Tokens) -> tuple[list[Any], dict[str, Any]]:
        values: list[Any] = []
        named: dict[str, Any] = {}
        while not tokens.accept(")"):
            if values or named:
                tokens.take(",")
            following = tokens.kinds[tokens.place + 1 : tokens.place + 2]
            if tokens.kind == "name" and following == [("sign", "=")]:
                key = tokens.take(kind="name")
                tokens.take("=")
                named[key] = self._list(tokens, "]") if tokens.accept("[") else self.expressions.value(tokens)
            elif named:
                raise ValueError("a value without a name follows one with a name")
            else:
                values.append(self.expressions.value(tokens))
        return values, named

    def _apply(self, name: str, modes: tuple[int, ...], values: list[Any], named: dict[str, Any]) -> None:
        if name.startswith("Measure"):
            if "select" in named:
                raise ValueError(f"{name} selects an outcome, which cannot be imported")
            self.measured |= set(modes)
            self.used |= set(modes)
            return
        made = gates_of(name, modes, values, named, self.hbar)
        if name in PREPARATIONS and set(modes) & self.used:
            raise ValueError(f"{name} prepares mode {modes[0]} a second time or after a gate")
        if name == "Fock":
            self.photons[modes[0]] = photons_of(values, named)
        if self.measured & set(modes):
            raise ValueError(f"{name} on modes {list(modes)} follows a measurement; measure last")
        self.gates += made
        self.used |= set(modes)


def _indented(line: str) -> bool:
    return line.startswith(("\t", "    ")) and bool(line.strip())


def _typed(kind: str, value: Any) -> Any:
    """The value as this type; an integer is also a float, and a real number also complex."""
    if isinstance(value, Parameter) and kind in ("float", "complex"):
        return value
    widened = {"float": (int, float), "complex": (int, float, complex)}.get(kind, (_TYPES[kind],))
    if type(value) not in widened:
        shown = "a template parameter" if isinstance(value, Parameter) else f"of type {type(value).__name__}"
        raise ValueError(f"a value is {shown}; {kind} is needed")
    return _TYPES[kind](value)

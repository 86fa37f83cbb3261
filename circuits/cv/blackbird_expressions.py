"""Expressions of Blackbird text: numbers, variables and template parameters, and what can be computed from them."""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from circuits.cv.gates import Parameter

__all__ = ["Expressions", "Tokens"]

_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_TOKEN = re.compile(
    rf"""(?P<space>[ \t]+|\#.*)
    |(?P<complex>[+-]?(?:{_NUMBER}[+-])?{_NUMBER}[jJ])
    |(?P<number>{_NUMBER})
    |(?P<name>[A-Za-z][0-9A-Za-z_]*)
    |(?P<text>"[^"]*")
    |(?P<sign>\*\*|[-+*/()\[\]{{}},|=:])""",
    re.VERBOSE,
)
_FUNCTIONS = {
    "sqrt": "sqrt",
    "exp": "exp",
    "log": "log",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "sinh": "sinh",
    "cosh": "cosh",
    "tanh": "tanh",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
}


class Tokens:
    """The tokens of one line, taken from left to right; comments are left out.

    Raises:
        ValueError: a character that no token begins with.
    """

    def __init__(self, line: str) -> None:
        self.kinds: list[tuple[str, str]] = []
        place = 0
        while place < len(line):
            found = _TOKEN.match(line, place)
            if found is None:
                raise ValueError(f"{line[place]!r} is not expected")
            if found.lastgroup != "space":
                self.kinds.append((str(found.lastgroup), found[0]))
            place = found.end()
        self.place = 0

    @property
    def kind(self) -> str:
        """What the next token is; empty at the end."""
        return self.kinds[self.place][0] if self.place < len(self.kinds) else ""

    @property
    def next(self) -> str:
        """The next token; empty at the end."""
        return self.kinds[self.place][1] if self.place < len(self.kinds) else ""

    def take(self, *allowed: str, kind: str | None = None) -> str:
        """The next token, which must be one of these or of this kind, and go on behind it."""
        token = self.next
        if token not in allowed and (kind is None or self.kind != kind):
            wanted = f"a {kind}" if kind else " or ".join(map(repr, allowed))
            raise ValueError(
                f"{token!r} is not expected; {wanted} is" if token else f"the line ends where {wanted} is due"
            )
        self.place += 1
        return token

    def accept(self, *allowed: str) -> bool:
        """Whether the next token is one of these; then it is taken."""
        if self.next not in allowed or self.kind == "":
            return False
        self.place += 1
        return True

    def end(self) -> None:
        """A ``ValueError`` unless the line is at its end."""
        if self.kind:
            raise ValueError(f"{self.next!r} is not expected; the line should end before it")


class Expressions:
    """Evaluates expressions.

    Signs bind tightest, then ``**`` from the right, then ``*`` and ``/``, then ``+`` and ``-``, as in Blackbird's
    grammar: ``-2**2`` is 4.

    Args:
        variables: values of the names in use.
        parameter: the template parameter of a name.
    """

    def __init__(self, variables: Mapping[str, Any], parameter: Callable[[str], Parameter]) -> None:
        self.variables = variables
        self.parameter = parameter

    def value(self, tokens: Tokens) -> Any:
        """The value of the expression that begins here: a number, a parameter, an array, a text or a truth value."""
        found = self._product(tokens)
        while tokens.next in ("+", "-") or (tokens.kind == "complex" and tokens.next[0] in "+-"):
            if tokens.kind == "complex":  # "+2j" after an operand is a sum, though it is read as one token
                found = _add(found, complex(tokens.take(kind="complex")))
            elif tokens.take("+", "-") == "+":
                found = _add(found, self._product(tokens))
            else:
                found = _add(found, _times(self._product(tokens), -1))
        return found

    def _product(self, tokens: Tokens) -> Any:
        found = self._power(tokens)
        while tokens.next in ("*", "/"):
            if tokens.take("*", "/") == "*":
                found = _times(found, self._power(tokens))
            else:
                found = _divide(found, self._power(tokens))
        return found

    def _power(self, tokens: Tokens) -> Any:
        base = self._signed(tokens)
        return _power(base, self._power(tokens)) if tokens.accept("**") else base

    def _signed(self, tokens: Tokens) -> Any:
        if tokens.accept("-"):
            return _times(self._signed(tokens), -1)
        return self._signed(tokens) if tokens.accept("+") else self._atom(tokens)

    def _atom(self, tokens: Tokens) -> Any:
        if tokens.accept("("):
            found = self.value(tokens)
            tokens.take(")")
            return found
        if tokens.accept("{"):
            name = tokens.take(kind="name")
            tokens.take("}")
            return self.parameter(name)
        if tokens.kind == "complex":
            return complex(tokens.take(kind="complex"))
        if tokens.kind == "number":
            text = tokens.take(kind="number")
            return int(text) if text.isdigit() else _finite(float(text))
        if tokens.kind == "text":
            return tokens.take(kind="text")[1:-1]
        if tokens.kind != "name":
            raise ValueError(f"{tokens.next!r} is not expected; a value is" if tokens.kind else "the line ends early")
        return self._named(tokens, tokens.take(kind="name"))

    def _named(self, tokens: Tokens, name: str) -> Any:
        if name == "pi":
            return math.pi
        if name in ("True", "False"):
            return name == "True"
        if name in _FUNCTIONS and tokens.accept("("):
            argument = _number(self.value(tokens), f"the argument of {name}")
            tokens.take(")")
            module = cmath if isinstance(argument, complex) else math
            return _finite(getattr(module, _FUNCTIONS[name])(argument))
        if name not in self.variables:
            what = (
                "the result of a measurement, which cannot be imported"
                if re.fullmatch("q[0-9]+", name)
                else "not defined"
            )
            raise ValueError(f"{name!r} is {what}")
        value = self.variables[name]
        if not tokens.accept("["):
            return value
        index = self.value(tokens)
        tokens.take("]")
        if not isinstance(value, np.ndarray):
            raise ValueError(f"{name!r} is not an array")
        if type(index) is not int or not 0 <= index < value.size:
            raise ValueError(f"index of {name!r} is {index}; an integer from 0 to {value.size - 1} is needed")
        return value.flatten()[index].item()


def _number(value: Any, what: str = "a term") -> Any:
    if type(value) not in (int, float, complex):
        kind = "a template parameter" if isinstance(value, Parameter) else f"of type {type(value).__name__}"
        raise ValueError(f"{what} is {kind}; a number is needed")
    return value


def _finite(value: Any) -> Any:
    if not cmath.isfinite(value):
        raise ValueError(f"a value is {value}; it must be finite")
    return value


def _add(a: Any, b: Any) -> Any:
    if isinstance(b, Parameter) and not isinstance(a, Parameter):
        a, b = b, a
    if not isinstance(a, Parameter):
        return _finite(_number(a) + _number(b))
    if not isinstance(b, Parameter):
        return a.affine(1.0, _real(b))
    if a.index != b.index:
        raise ValueError("a value depends on two template parameters; one at most is allowed")
    scale, offset = a.scale + b.scale, a.offset + b.offset
    return Parameter(a.index, scale, offset) if scale else offset


def _times(a: Any, b: Any) -> Any:
    if isinstance(b, Parameter):
        a, b = b, a
    if not isinstance(a, Parameter):
        return _finite(_number(a) * _number(b))
    if isinstance(b, Parameter):
        raise ValueError("a product of template parameters is not allowed; only scale * parameter + offset is")
    factor = _real(b)
    return a.affine(factor) if factor else 0.0


def _divide(a: Any, b: Any) -> Any:
    divisor = _number(b, "a divisor")
    if isinstance(a, Parameter):
        return a.affine(1 / _real(divisor))
    return _finite(_number(a) / divisor)


def _power(a: Any, b: Any) -> Any:
    base, exponent = _number(a), _number(b)
    if isinstance(base, complex) or isinstance(exponent, complex):
        return _finite(complex(base) ** complex(exponent))
    found = math.pow(base, exponent)
    whole = type(base) is int and type(exponent) is int and exponent >= 0 and abs(found) < 2**53
    return int(found) if whole else found


def _real(value: Any) -> float:
    number = _number(value)
    if isinstance(number, complex):
        raise ValueError(f"a complex number, {number}, meets a template parameter; it must be real")
    return float(number)

"""Explicit SIMD vectors for numba kernels.

LLVM vectorises a loop only where it can prove that what is written is not read elsewhere; the butterflies of a state
vector, in place and at shifts known at run time, are beyond it. Here a vector is a value: 64 bytes of float64 or
float32, loaded, computed with and stored. LLVM maps it to whatever registers the processor has.

Amplitudes are stored in *units*, real part before imaginary: one complex number in a plain state, two, psi and lambda,
in an adjoint sweep. A *row set* is a tuple of ``2**k`` vectors: the amplitudes of ``k`` qubits, held in registers while
``k`` rotations act on them.
"""

# mypy: disable-error-code="no-untyped-call,no-untyped-def"

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

__all__ = [
    "across",
    "load",
    "load_each",
    "load_half",
    "load_lanes",
    "load_rows",
    "measure_and_turn",
    "measure_lanes",
    "move_pair",
    "move_quad",
    "nearest",
    "splat",
    "splat_each",
    "store",
    "store_each",
    "store_rows",
    "times_conjugate",
    "times_number",
    "times_phase",
    "turn",
    "turn_lanes",
]

intrinsic: Any = extending.intrinsic

_BITS = 512
_FLAGS = ("contract", "nsz")  # multiply and add in one instruction; infinities and NaN stay what they are


class Vector(types.Type):
    """The numba type of a vector: its real type and how many lanes."""

    def __init__(self, real: types.Float, lanes: int) -> None:
        self.real, self.lanes = real, lanes
        super().__init__(name=f"Vector({real}, {lanes})")

    @classmethod
    def full(cls, real: types.Float) -> Vector:
        """The vector of 64 bytes."""
        return cls(real, _BITS // real.bitwidth)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, ir.VectorType(manager.lookup(vector.real).get_value_type(), vector.lanes))


class _Binary(AbstractTemplate):
    def generic(self, args: tuple[types.Type, ...], kws: dict[str, types.Type]) -> Any:
        return signature(args[0], *args) if isinstance(args[0], Vector) and args[0] == args[1] else None


def _operator(function: Callable[..., Any], instruction: str) -> None:
    infer_global(function)(type(f"_{instruction}", (_Binary,), {"key": function}))

    @lower_builtin(function, Vector, Vector)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args, flags=_FLAGS)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")


# pieces of LLVM code


def _shuffle(builder: Any, value: Any, lanes: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    return builder.shuffle_vector(value, value, mask)


def _splat(builder: Any, number: Any, lanes: int) -> Any:
    empty = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    return _shuffle(builder, builder.insert_element(empty, number, ir.Constant(ir.IntType(32), 0)), [0] * lanes)


def _lanes(value: Any) -> range:
    return range(value.type.count)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=_FLAGS), c, flags=_FLAGS)


def _unpack(builder: Any, values: Any) -> list[Any]:
    return [builder.extract_value(values, number) for number in range(values.type.count)]


def _address(context: Any, builder: Any, array_type: Any, array: Any, element: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [element])


def _read(context: Any, builder: Any, vector: Vector, address: Any) -> Any:
    kind = context.get_value_type(vector)
    return builder.load(builder.bitcast(address, kind.as_pointer()), align=vector.real.bitwidth // 8)


def _write(builder: Any, value: Any, address: Any, align: int) -> None:
    builder.store(value, builder.bitcast(address, value.type.as_pointer()), align=align)


def _place(builder: Any, index: Any, lanes: int) -> Any:
    return builder.mul(index, ir.Constant(index.type, lanes))


# vectors in memory


def _loader(array: Any, index: Any, share: int) -> Any:
    vector = Vector(array.dtype, Vector.full(array.dtype).lanes // share)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], args[0], _place(builder, args[1], vector.lanes))
        return _read(context, builder, vector, address)

    return vector(array, types.intp), generate


@intrinsic
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """Vector number ``index`` of an array."""
    return _loader(array, index, 1)


@intrinsic
def load_half(typing_context: Any, array: Any, index: Any) -> Any:
    """Half vector number ``index`` of an array."""
    return _loader(array, index, 2)


@intrinsic
def store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write vector number ``index`` of an array."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], args[0], _place(builder, args[1], value.lanes))
        _write(builder, args[2], address, value.real.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


def _mover(target: Any, source: Any, lanes: int) -> Any:
    vector = Vector(source.dtype, lanes)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        to, at, source_, start = args
        address = _address(context, builder, sig.args[2], source_, _place(builder, start, lanes))
        value = _read(context, builder, vector, address)
        address = _address(context, builder, sig.args[0], to, _place(builder, at, lanes))
        _write(builder, value, address, vector.real.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp), generate


@intrinsic
def move_pair(typing_context: Any, target: Any, at: Any, source: Any, start: Any) -> Any:
    """Copy the unit of two reals number ``start`` of ``source`` to number ``at`` of ``target``."""
    return _mover(target, source, 2)


@intrinsic
def move_quad(typing_context: Any, target: Any, at: Any, source: Any, start: Any) -> Any:
    """Copy the unit of four reals number ``start`` of ``source`` to number ``at`` of ``target``."""
    return _mover(target, source, 4)


def _read_each(values: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        starts = [ir.Constant(ir.IntType(64), number * values.dtype.lanes) for number in range(values.count)]
        addresses = [_address(context, builder, sig.args[0], args[0], start) for start in starts]
        vectors = [_read(context, builder, values.dtype, address) for address in addresses]
        return context.make_tuple(builder, values, vectors)

    return generate


@intrinsic
def load_each(typing_context: Any, array: Any, like: Any) -> Any:
    """The first vectors of an array, as many as a tuple has entries."""
    values = types.UniTuple(Vector.full(array.dtype), like.count)
    return values(array, like), _read_each(values)


@intrinsic
def store_each(typing_context: Any, array: Any, values: Any) -> Any:
    """Write the first vectors of an array."""
    vector = values.dtype

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for number, value in enumerate(_unpack(builder, args[1])):
            start = ir.Constant(ir.IntType(64), number * vector.lanes)
            address = _address(context, builder, sig.args[0], args[0], start)
            _write(builder, value, address, vector.real.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, values), generate


# vectors as values


@intrinsic
def splat(typing_context: Any, like: Any, number: Any) -> Any:
    """A vector with one number in all lanes, of the type of an array's elements."""
    vector = Vector.full(like.dtype)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _splat(builder, context.cast(builder, args[1], sig.args[1], vector.real), vector.lanes)

    return vector(like, number), generate


@intrinsic
def splat_each(typing_context: Any, like: Any, numbers: Any, first: Any, shifts: Any) -> Any:
    """Vectors of the numbers from ``first`` on, as many as ``shifts`` has entries, of the type of an array."""
    vector = Vector.full(like.dtype)
    values = types.UniTuple(vector, shifts.count)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vectors = []
        for number in range(values.count):
            place = builder.add(args[2], ir.Constant(args[2].type, number))
            value = builder.load(_address(context, builder, sig.args[1], args[1], place))
            value = context.cast(builder, value, numbers.dtype, vector.real)
            vectors.append(_splat(builder, value, vector.lanes))
        return context.make_tuple(builder, values, vectors)

    return values(like, numbers, types.intp, shifts), generate


@intrinsic
def nearest(typing_context: Any, value: Any) -> Any:
    """Every lane rounded to the nearest integer."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = args[0].type
        name = f"llvm.rint.v{kind.count}{kind.element.intrinsic_name}"
        return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name), args)

    return value(value), generate


def _times(builder: Any, amplitudes: Any, real: Any, imaginary: Any, conjugate: bool = False) -> Any:
    """Complex numbers times complex numbers, whose parts are in both lanes of a pair."""
    lanes = _lanes(amplitudes)
    signs = ir.Constant(amplitudes.type, [(1.0, -1.0)[lane % 2 ^ (not conjugate)] for lane in lanes])
    crossed = _shuffle(builder, amplitudes, [lane ^ 1 for lane in lanes])
    turned = builder.fmul(crossed, builder.fmul(imaginary, signs, flags=_FLAGS), flags=_FLAGS)
    return _multiply_add(builder, amplitudes, real, turned)


def _phases(value: Any, phase: Any, conjugate: bool) -> Any:
    unit = 2 * value.lanes // phase.lanes

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        amplitudes, phases = args
        real = _shuffle(builder, phases, [lane // unit * 2 for lane in _lanes(amplitudes)])
        imaginary = _shuffle(builder, phases, [lane // unit * 2 + 1 for lane in _lanes(amplitudes)])
        return _times(builder, amplitudes, real, imaginary, conjugate)

    return value(value, phase), generate


@intrinsic
def times_phase(typing_context: Any, value: Any, phase: Any) -> Any:
    """Amplitudes times phases, one for each unit; a unit has ``2 value.lanes / phase.lanes`` reals."""
    return _phases(value, phase, conjugate=False)


@intrinsic
def times_conjugate(typing_context: Any, value: Any, phase: Any) -> Any:
    """Amplitudes times conjugate phases, one for each unit."""
    return _phases(value, phase, conjugate=True)


@intrinsic
def times_number(typing_context: Any, value: Any, real: Any, imaginary: Any) -> Any:
    """Amplitudes times one complex number."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = [_splat(builder, context.cast(builder, args[i], sig.args[i], value.real), value.lanes) for i in (1, 2)]
        return _times(builder, args[0], *parts)

    return value(value, real, imaginary), generate


@intrinsic
def across(typing_context: Any, value: Any) -> Any:
    """``psi conj(lambda)``'s imaginary part in every unit of four, as lane 0 minus lane 1."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fmul(args[0], _shuffle(builder, args[0], [lane ^ 3 for lane in _lanes(args[0])]), flags=_FLAGS)

    return value(value), generate


# qubits within a vector


@intrinsic(prefer_literal=True)
def load_lanes(typing_context: Any, array: Any, unit: Any) -> Any:
    """The first vectors of an array, one for each qubit that fits within a vector of units of ``unit`` reals."""
    vector = Vector.full(array.dtype)
    values = types.UniTuple(vector, (vector.lanes // unit.literal_value).bit_length() - 1)
    return values(array, unit), _read_each(values)


@intrinsic
def turn_lanes(typing_context: Any, value: Any, cosines: Any, sines: Any) -> Any:
    """A vector after the rotations of the qubits within, from the lowest; the sines are signed for each lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        result = args[0]
        mask = len(_lanes(result)) >> cosines.count
        for cosine, sine in zip(_unpack(builder, args[1]), _unpack(builder, args[2]), strict=True):
            crossed = _shuffle(builder, result, [lane ^ mask for lane in _lanes(result)])
            result = _multiply_add(builder, result, cosine, builder.fmul(crossed, sine, flags=_FLAGS))
            mask *= 2
        return result

    return value(value, cosines, sines), generate


@intrinsic
def measure_lanes(typing_context: Any, value: Any, sums: Any) -> Any:
    """``sums`` with the derivatives by the angles of the rotations within a vector of units of four: in the units
    whose qubit is 0, lanes 0 and 1 minus lanes 2 and 3."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = _unpack(builder, args[1])
        for number, total in enumerate(values):
            crossed = _shuffle(builder, args[0], [lane ^ 2 ^ 4 << number for lane in _lanes(args[0])])
            values[number] = _multiply_add(builder, args[0], crossed, total)
        return context.make_tuple(builder, sums, values)

    return sums(value, sums), generate


# row sets


def _row_addresses(context: Any, builder: Any, sig: Any, args: Any, lanes: int) -> list[Any]:
    """Where the rows start; the first of the ``shifts`` is the lowest bit of a row's number."""
    starts = [args[1]]
    for shift in _unpack(builder, args[2]):
        stride = builder.shl(ir.Constant(shift.type, 1), shift)
        starts += [builder.add(start, stride) for start in starts]
    return [_address(context, builder, sig.args[0], args[0], _place(builder, start, lanes)) for start in starts]


@intrinsic
def load_rows(typing_context: Any, array: Any, base: Any, shifts: Any) -> Any:
    """The vectors at ``base`` plus every sum of ``1 << shift``."""
    vector = Vector.full(array.dtype)
    rows = types.UniTuple(vector, 2**shifts.count)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        addresses = _row_addresses(context, builder, sig, args, vector.lanes)
        return context.make_tuple(builder, rows, [_read(context, builder, vector, address) for address in addresses])

    return rows(array, types.intp, shifts), generate


@intrinsic
def store_rows(typing_context: Any, array: Any, base: Any, shifts: Any, rows: Any) -> Any:
    """Write what :func:`load_rows` read."""
    vector = rows.dtype

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        addresses = _row_addresses(context, builder, sig, args, vector.lanes)
        for value, address in zip(_unpack(builder, args[3]), addresses, strict=True):
            _write(builder, value, address, vector.real.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, shifts, rows), generate


def _turned(builder: Any, rows: list[Any], bit: int, cosine: Any, sine: Any) -> None:
    for number in range(len(rows)):
        if number >> bit & 1:
            continue
        low, high = rows[number], rows[number | 1 << bit]
        minus = builder.fmul(sine, high, flags=_FLAGS)
        rows[number] = builder.fsub(builder.fmul(cosine, low, flags=_FLAGS), minus, flags=_FLAGS)
        rows[number | 1 << bit] = _multiply_add(builder, sine, low, builder.fmul(cosine, high, flags=_FLAGS))


@intrinsic
def turn(typing_context: Any, rows: Any, cosines: Any, sines: Any) -> Any:
    """Rows after the rotations of their ``k`` qubits."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values, cosines_, sines_ = (_unpack(builder, arg) for arg in args)
        for bit, (cosine, sine) in enumerate(zip(cosines_, sines_, strict=True)):
            _turned(builder, values, bit, cosine, sine)
        return context.make_tuple(builder, rows, values)

    return rows(rows, cosines, sines), generate


@intrinsic
def measure_and_turn(typing_context: Any, rows: Any, cosines: Any, sines: Any, sums: Any) -> Any:
    """Rows of units of four after the rotations, and ``sums`` with the overlaps of psi and lambda that are the
    derivatives by the rotations' angles: lanes 0 and 1 of each unit minus lanes 2 and 3."""
    result = types.Tuple((rows, sums))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values, cosines_, sines_, sums_ = (_unpack(builder, arg) for arg in args)
        for bit, (cosine, sine) in enumerate(zip(cosines_, sines_, strict=True)):
            for number in range(len(values)):
                if not number >> bit & 1:
                    high = values[number | 1 << bit]
                    crossed = _shuffle(builder, high, [lane ^ 2 for lane in _lanes(high)])
                    sums_[bit] = _multiply_add(builder, values[number], crossed, sums_[bit])
            _turned(builder, values, bit, cosine, sine)
        packed = [context.make_tuple(builder, rows, values), context.make_tuple(builder, sums, sums_)]
        return context.make_tuple(builder, result, packed)

    return result(rows, cosines, sines, sums), generate

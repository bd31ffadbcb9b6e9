"""sotto.CompressedTensor; python/packed_matrix.cc does the work. numpy is needed once one is made."""
from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

from . import BadModel, Usage, _raise_error, _sotto

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8"}
_DTYPES = {"step": "float32", "int8": "float32", "fp16": "float16", "bf16": "float32", "plain": "int8"}  # by scheme
_ROWS_AT_ONCE = 256


def _threads(threads: SupportsIndex) -> int:
    count = operator.index(threads)
    if not 0 <= count <= 256:
        raise Usage(f"threads {count} is not between 1 and 256, or 0 for all CPUs")
    return count


def _matrix(value: Any) -> tuple[npt.NDArray[Any], str]:
    """The array where it lies, or a copy where its rows don't lie one behind the other; what its elements are."""
    import numpy as np

    if type(value).__module__.partition(".")[0] == "torch":
        if value.device.type != "cpu":
            raise TypeError(f"the tensor is on {value.device}; give tensor.cpu()")
        name = str(value.dtype).removeprefix("torch.")
        bits = value.detach().contiguous()
        array = bits.view(dtype=getattr(__import__("torch"), "int16")).numpy() if name == "bfloat16" else bits.numpy()
    elif isinstance(value, np.ndarray):
        name = value.dtype.name
        array = np.ascontiguousarray(value.view(np.uint16) if name == "bfloat16" else value)
        if name in _TYPES and not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
    else:
        raise TypeError(f"a CompressedTensor is made of a NumPy array or a torch tensor, not of {type(value).__name__}")
    if name not in _TYPES:
        raise TypeError(f"{name} is not coded; give float32, float16, bfloat16 or int8 (array.astype('float32'))")
    if array.ndim != 2:
        raise Usage(f"a matrix has 2 dimensions, and this array has {array.ndim}; reshape it to (rows, columns)")
    return array, _TYPES[name]


class CompressedTensor:
    """A matrix of weights in few bits each, which products read as it is. Does not change.

        >>> import numpy as np, sotto
        >>> w = np.random.default_rng(1).normal(size=(512, 1024)).astype(np.float32)
        >>> t = sotto.CompressedTensor(w, bits=4.5)
        >>> t
        <sotto.CompressedTensor 512 x 1024 float32: 4.50 bits a weight, 1.78x below int8, 23.8 dB>
        >>> x = np.ones((3, 1024), np.float32)
        >>> bool(np.allclose(t.matmul(x), x @ t.decode().T, atol=1e-3))
        True

    `error_db` is 10 log10(power of the weights / power of the error), infinite without one; from_bytes() doesn't know it, nor
    `max_error`: None.
    """

    __slots__ = ("_matrix", "dtype", "error_db", "max_error", "__weakref__")

    dtype: np.dtype[Any]  #: of decode(): the array's own; float32 of bfloat16
    error_db: float | None
    max_error: float | None

    def __init__(
        self,
        array: Any,
        *,
        bits: float | None = None,
        mode: Literal["int8", "lossless"] | None = None,
        level: Literal["fast", "mid", "archive"] | None = None,
        per_channel: bool = True,
        threads: SupportsIndex = 0,
    ) -> None:
        """Codes a 2-D array: float32, float16, bfloat16 (of ml_dtypes) or int8, or such a torch tensor on the CPU.

        bits         a weight, 2 to 12, any number: a uniform quantizer whose step meets it. All bytes count, but the header's
                     where there are fewer than 65,536 weights
        mode         "int8", the default: int8 weights by the largest of each row, whose codes are kept bit for bit; "lossless":
                     the array itself, float16 or bfloat16, bit for bit. int8 arrays are always kept bit for bit
        level        "fast": products at the speed of memory; "mid": about 0.1 bit fewer; "archive": the fewest. Default:
                     "fast", for "lossless" archive
        per_channel  of mode "int8": False for one scale for all rows

        C-contiguous arrays are read where they lie, and other threads go on. Raises ValueError (Usage) and TypeError.
        """
        import numpy as np

        matrix, kind = _matrix(array)
        if bits is not None and mode is not None:
            raise Usage("bits and mode say two things; give one of them")
        if mode not in (None, "int8", "lossless"):
            raise Usage(f"mode {mode!r} is none of 'int8' and 'lossless'; or give bits")
        if level not in (None, "fast", "mid", "archive"):
            raise Usage(f"level {level!r} is none of 'fast', 'mid' and 'archive'")
        if bits is not None and kind == "I8":
            raise Usage("int8 arrays are kept bit for bit; leave bits away")
        self._matrix = _sotto.PackedMatrix()
        how, rate = (mode or "int8", 0.0) if bits is None else ("rate", 0.0 + bits)
        rows, columns = matrix.shape
        _raise_error(self._matrix.encode(matrix.reshape(-1).view(np.uint8), rows, columns, kind, how, rate, level or "",
                                         per_channel, _threads(threads)))
        self.dtype = np.dtype({"F16": "float16", "I8": "int8"}.get(kind, "float32"))
        self.error_db, self.max_error = self._matrix.error_db, self._matrix.max_error

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview | npt.NDArray[np.uint8], *, copy: bool = True) -> CompressedTensor:
        """What to_bytes() gave, or a tensor NAME.planes of `sotto pack`. Everything in it is checked: ValueError (Usage) when it
        is damaged. Without `copy` it is read where it lies, and must not change from then on."""
        import numpy as np

        made = cls.__new__(cls)
        made._matrix = _sotto.PackedMatrix()
        try:
            _raise_error(made._matrix.open(np.frombuffer(data, np.uint8), copy, 0))
        except BadModel as error:
            raise Usage(str(error)) from None
        made.dtype = np.dtype(_DTYPES[made._matrix.scheme])
        made.error_db = made.max_error = None
        return made

    def to_bytes(self) -> bytes:
        """The block of docs/format.md, a copy."""
        return self.payload.tobytes()

    @property
    def payload(self) -> npt.NDArray[np.uint8]:
        """The same bytes where they lie: a read-only array, which keeps them alive."""
        view = self._writable().view()
        view.flags.writeable = False
        return view

    def _writable(self) -> npt.NDArray[np.uint8]:
        return self._matrix.payload()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (outputs of a linear layer) and columns (its inputs)."""
        return self._matrix.rows, self._matrix.columns

    @property
    def size(self) -> int:
        """Weights."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Of the block, which is all that is kept."""
        return self._matrix.nbytes

    @property
    def scheme(self) -> str:
        """"step", "int8", "fp16" or "bf16" of docs/format.md; "plain" of int8 arrays."""
        return self._matrix.scheme

    @property
    def bits(self) -> float:
        """A weight, all bytes counted."""
        return 8 * self.nbytes / self.size

    @property
    def entropy(self) -> float:
        """What an ideal code of single weights takes, in bits each. Decodes all of them."""
        return self._matrix.entropy()

    @property
    def ratio_over_int8(self) -> float:
        """Bytes of int8 weights, without their scales, over `nbytes`."""
        return self.size / self.nbytes

    @property
    def ratio_over_fp16(self) -> float:
        """Bytes of fp16 weights over `nbytes`."""
        return 2 * self.size / self.nbytes

    def decode(
        self, out: npt.NDArray[Any] | None = None, *, rows: slice = slice(None), threads: SupportsIndex = 0
    ) -> npt.NDArray[Any]:
        """The numbers, or those of some rows (a slice without a step); into `out`, of any type that can hold them, if given."""
        import numpy as np

        first, end, step = rows.indices(self.shape[0])
        if step != 1:
            raise Usage("rows are decoded one behind the other; give a slice without a step")
        want = (max(0, end - first), self.shape[1])
        if out is None:
            out = np.empty(want, self.dtype)
        if out.shape != want:
            raise Usage(f"out is {out.shape}, not {want}")
        if not np.can_cast(self.dtype, out.dtype, "same_kind"):
            raise TypeError(f"out is {out.dtype}, which cannot hold {self.dtype}")
        if out.dtype == np.float32 and out.flags.c_contiguous and out.flags.writeable:
            self._matrix.decode(first, out, _threads(threads))
            return out
        for at in range(0, want[0], _ROWS_AT_ONCE):
            piece = np.empty((min(_ROWS_AT_ONCE, want[0] - at), want[1]), np.float32)
            self._matrix.decode(first + at, piece, _threads(threads))
            np.copyto(out[at:at + len(piece)], piece, casting="unsafe")
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("a CompressedTensor is decoded into a new array")
        array = self.decode()
        return array if dtype is None else array.astype(dtype, copy=False)

    def matmul(
        self,
        x: npt.NDArray[Any],
        out: npt.NDArray[np.float32] | None = None,
        *,
        fast: bool = False,
        threads: SupportsIndex = 0,
    ) -> npt.NDArray[np.float32]:
        """x W^T in float32, (..., columns) to (..., rows): weights are decoded inside the product, a few at a time, never all of them.

        Sums are those of fp32 weights and inputs, in some order. `fast` is what `sotto run` does: inputs are rounded to int8, 32 of
        them by one scale (mode "int8": a row by one), and sums are exact integers from there; several times as fast, where the
        scheme is "step" or "int8" and has no raw bits.
        C-contiguous float32 is read and written where it lies, and other threads go on.
        """
        import numpy as np

        x = np.asarray(x)
        rows, columns = self.shape
        if x.ndim == 0 or x.shape[-1] != columns:
            raise Usage(f"x is {x.shape}, and its last dimension must be {columns}")
        if x.dtype.kind not in "fiu" and x.dtype.name != "bfloat16":
            raise TypeError(f"x is {x.dtype}; give real numbers")
        want = (*x.shape[:-1], rows)
        if out is None:
            out = np.empty(want, np.float32)
        elif not (isinstance(out, np.ndarray) and out.dtype == np.float32 and out.flags.c_contiguous and out.flags.writeable):
            raise TypeError("out must be a writable, C-contiguous float32 array")
        elif out.shape != want:
            raise Usage(f"out is {out.shape}, not {want}")
        elif np.may_share_memory(x, out):
            raise Usage("x and out share memory; give another out")
        inputs = np.ascontiguousarray(x, np.float32).reshape(-1, columns)
        _raise_error(self._matrix.multiply(inputs, out.reshape(-1, rows), fast, _threads(threads)))
        return out

    def __repr__(self) -> str:
        error = "" if self.error_db is None else ", exact" if self.error_db == float("inf") else f", {self.error_db:.1f} dB"
        return (f"<sotto.CompressedTensor {self.shape[0]} x {self.shape[1]} {self.dtype}: {self.bits:.2f} bits a weight, "
                f"{self.ratio_over_int8:.2f}x below int8{error}>")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.to_bytes(), self.dtype, self.error_db, self.max_error)


def _restored(data: bytes, dtype: np.dtype[Any], error_db: float | None, max_error: float | None) -> CompressedTensor:
    made = CompressedTensor.from_bytes(data)
    made.dtype, made.error_db, made.max_error = dtype, error_db, max_error
    return made

"""Linear layers of PyTorch models with packed weights. Needs torch, which `pip install sotto[torch]` brings.

    import sotto.torch
    report = sotto.torch.compress(model, bits=4.3)  # in place, layer by layer: each old weight is freed before the next is coded
    print(report)
    model.generate(**inputs)

    torch.save(model.state_dict(), "packed.pt")
    empty = sotto.torch.compress(make_model(), empty=True).model    # the same layers without weights
    empty.load_state_dict(torch.load("packed.pt"))

Products run on the CPU, in float32 inside. Weights don't train; gradients pass through to the inputs, and biases train.
"""
from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import nn

from . import Usage, _sotto
from .compressed import CompressedTensor

__all__ = ["Compressed", "CompressedLinear", "Layer", "compress", "load_packed"]

_KEY = "weight.planes"  # of state_dict: as `sotto pack` names it in files
_ROWS_AT_ONCE = 1024    # decoded by a backward pass
_TRIM_EVERY = 32 << 20  # bytes that were freed


class _Product(torch.autograd.Function):
    """x W^T in float32."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: CompressedTensor, fast: bool) -> torch.Tensor:
        ctx.weight, ctx.dtype = weight, x.dtype
        rows, columns = weight.shape
        inputs = x.detach().reshape(-1, columns).to(torch.float32).contiguous()
        out = torch.empty(len(inputs), rows)
        weight.matmul(inputs.numpy(), out.numpy(), fast=fast, threads=min(torch.get_num_threads(), 256))
        return out.reshape(*x.shape[:-1], rows)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        weight, grad = cast(CompressedTensor, ctx.weight), grads[0]
        sums = torch.zeros(*grad.shape[:-1], weight.shape[1])
        for first in range(0, weight.shape[0], _ROWS_AT_ONCE):
            rows = slice(first, first + _ROWS_AT_ONCE)
            sums += grad[..., rows] @ torch.from_numpy(weight.decode(rows=rows)).to(torch.float32)
        return sums.to(ctx.dtype), None, None


class CompressedLinear(nn.Module):
    """nn.Linear with a packed weight: any leading dimensions, float32, float16 or bfloat16 in, the same type out.

    The weight is `planes`, a uint8 buffer that CompressedTensor reads where it lies; in a state_dict it is NAME.weight.planes.
    Reading `weight` decodes all of it each time, for code that looks at it. `fast` is that of CompressedTensor.matmul.
    """

    planes: torch.Tensor
    bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, fast: bool = False,
                 dtype: torch.dtype | None = None) -> None:
        """Without a weight, which load_state_dict brings; from_linear() is what makes one."""
        super().__init__()
        self.in_features, self.out_features, self.fast = in_features, out_features, fast
        self.weight_dtype = dtype or torch.get_default_dtype()
        self.register_buffer("planes", torch.empty(0, dtype=torch.uint8), persistent=False)
        self.bias = nn.Parameter(torch.zeros(out_features, dtype=self.weight_dtype)) if bias else None
        self._read: tuple[tuple[int, int], CompressedTensor] | None = None

    @classmethod
    def from_linear(
        cls,
        linear: nn.Linear,
        *,
        bits: float | None = None,
        mode: Literal["int8", "lossless"] | None = None,
        level: Literal["fast", "mid", "archive"] | None = None,
        per_channel: bool = True,
        fast: bool = False,
    ) -> CompressedLinear:
        """With the layer's weight, coded as CompressedTensor(weight, ...) does it; bias and training mode are kept."""
        weight = CompressedTensor(linear.weight, bits=bits, mode=mode, level=level, per_channel=per_channel)
        return cls._holding(weight, linear, fast)

    @classmethod
    def _holding(cls, weight: CompressedTensor, linear: nn.Linear, fast: bool) -> CompressedLinear:
        made = cls(linear.in_features, linear.out_features, False, fast=fast, dtype=linear.weight.dtype)
        made.bias = linear.bias
        made.planes = torch.from_numpy(weight._writable())
        made._read = (made._stamp(), weight)
        made.train(linear.training)
        return made

    def _stamp(self) -> tuple[int, int]:
        return self.planes.data_ptr(), 0 if self.planes.is_inference() else self.planes._version

    @property
    def compressed(self) -> CompressedTensor:
        """The weight. Checked again when the buffer was replaced or written."""
        if self._read is None or self._read[0] != self._stamp():
            if self.planes.numel() == 0:
                raise RuntimeError("this CompressedLinear has no weight yet; load_state_dict() first")
            if self.planes.device.type != "cpu":
                raise RuntimeError(f"a CompressedLinear computes on the CPU and its weight is on {self.planes.device}; "
                                   "move it with .to('cpu')")
            read = CompressedTensor.from_bytes(self.planes.numpy(), copy=False)
            if read.shape != (self.out_features, self.in_features):
                raise ValueError(f"the packed weight is {read.shape[0]} x {read.shape[1]}, not "
                                 f"{self.out_features} x {self.in_features}")
            self._read = (self._stamp(), read)
        return self._read[1]

    @property
    def weight(self) -> torch.Tensor:
        """Decoded anew at each access."""
        return torch.from_numpy(self.compressed.decode()).to(self.weight_dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype not in (torch.float32, torch.float16, torch.bfloat16) or x.device.type != "cpu":
            raise TypeError(f"the input is {x.dtype} on {x.device}; a CompressedLinear takes float32, float16 and bfloat16 on "
                            "the CPU")
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"the input is {tuple(x.shape)}, and its last dimension must be {self.in_features}")
        y = cast(torch.Tensor, _Product.apply(x, self.compressed, self.fast))  # type: ignore[no-untyped-call,unused-ignore]
        return (y if self.bias is None else y + self.bias.float()).to(x.dtype)

    def extra_repr(self) -> str:
        bits = 8 * self.planes.numel() / (self.in_features * self.out_features)
        return (f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
                + (f"{bits:.2f} bits a weight" if bits else "empty"))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_read": None}

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + _KEY] = self.planes

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, local_metadata: Mapping[str, Any], strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:
        key = prefix + _KEY
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        if key in unexpected_keys:  # of no submodule "weight"
            unexpected_keys.remove(key)
        if key not in state_dict:
            if strict:
                missing_keys.append(key)
            return
        before = self.planes, self._read
        shared = local_metadata.get("assign_to_params_buffers", False)  # load_state_dict(assign=True)
        try:
            self.planes = state_dict[key] if shared else state_dict[key].clone()
            self.compressed  # noqa: B018  (checks it)
        except (RuntimeError, TypeError, ValueError) as error:
            self.planes, self._read = before
            error_msgs.append(f"{key}: {error}")


@dataclass(frozen=True)
class Layer:
    """One layer that was replaced. Bytes are of the weight; error_db as in CompressedTensor."""

    path: str
    shape: tuple[int, int]
    nbytes: int
    original_bytes: int
    error_db: float

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class Compressed:
    """What compress() did: `layers` replaced, in the model's order; `kept`: paths of other linear layers, and why. str() is a table."""

    model: nn.Module = field(repr=False)
    layers: list[Layer] = field(repr=False)
    kept: dict[str, str]

    @property
    def size(self) -> int:
        """Weights of all layers."""
        return sum(layer.size for layer in self.layers)

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)

    @property
    def original_bytes(self) -> int:
        return sum(layer.original_bytes for layer in self.layers)

    @property
    def bits(self) -> float:
        """A weight, everything counted."""
        return 8 * self.nbytes / self.size if self.size else 0.0

    @property
    def ratio_over_int8(self) -> float:
        return self.size / self.nbytes if self.nbytes else 1.0

    @property
    def ratio_over_fp16(self) -> float:
        return 2 * self.ratio_over_int8

    @property
    def error_db(self) -> float:
        """Of the mean over all weights of error power relative to their matrix's own; infinite without errors."""
        noise = sum(layer.size * 10 ** (-layer.error_db / 10) for layer in self.layers)
        return 10 * math.log10(self.size / noise) if noise > 0 else math.inf

    def __str__(self) -> str:
        width = max((len(layer.path) for layer in self.layers), default=5)
        lines = [f"{'layer':<{width}}  {'shape':>15}  {'bytes':>12}  {'bits':>6}  {'error dB':>8}"]
        for layer in self.layers:
            shape, bits = f"{layer.shape[0]} x {layer.shape[1]}", 8 * layer.nbytes / layer.size
            lines.append(f"{layer.path:<{width}}  {shape:>15}  {layer.nbytes:>12,}  {bits:>6.2f}  "
                         f"{layer.error_db:>8.1f}")
        lines += [f"{path}: kept, {why}" for path, why in self.kept.items()]
        lines.append(f"{len(self.layers)} layers, {_sotto.human(self.original_bytes)} -> {_sotto.human(self.nbytes)}: "
                     f"{self.bits:.2f} bits a weight, {self.ratio_over_int8:.2f}x below int8, "
                     f"{self.ratio_over_fp16:.2f}x below fp16, {self.error_db:.1f} dB")
        return "\n".join(lines)


def _place(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    owner, _, name = path.rpartition(".")
    return model.get_submodule(owner), name


def _identity(weight: torch.Tensor) -> tuple[Any, ...]:
    """The same for tensors that are the same memory."""
    return (id(weight),) if weight.is_meta or weight.numel() == 0 else (weight.data_ptr(), weight.shape)


def _choose(model: nn.Module, skip: Collection[str]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Paths to replace, each with the first path of the same module; with the first of the same weight; what is kept, and why."""
    def named(entry: str, path: str) -> bool:
        return fnmatch.fnmatchcase(path, entry) or path.startswith(entry + ".")

    every = dict(model.named_modules(remove_duplicate=False))
    modules = {path: module for path, module in every.items() if isinstance(module, nn.Linear)}
    kept: dict[str, str] = {}
    for path, module in modules.items():
        if any(named(entry, path) for entry in skip):
            kept[path] = "skipped"
        elif type(module) is not nn.Linear:
            kept[path] = f"a {type(module).__name__}, which may compute something else"
    unknown = [entry for entry in skip if not any(named(entry, path) for path in modules)]
    if unknown:
        raise Usage(f"skip names {unknown[0]!r}, and no linear layer's path is or begins so; see model.named_modules()")
    others = {_identity(weight): f"{path}.{name}".lstrip(".")
              for path, module in every.items() if path not in modules or path in kept
              for name, weight in module.named_parameters(recurse=False)}
    of_module: dict[int, str] = {}
    of_weight: dict[tuple[Any, ...], str] = {}
    same_module: dict[str, str] = {}
    same_weight: dict[str, str] = {}
    for path, module in modules.items():
        if path in kept:
            continue
        if (tied := others.get(_identity(module.weight))) is not None:
            kept[path] = f"its weight is {tied}, which would stay beside a packed copy"
            continue
        same_module[path] = of_module.setdefault(id(module), path)
        same_weight[path] = of_weight.setdefault(_identity(module.weight), path)
    return same_module, same_weight, kept


def compress(
    model: nn.Module,
    *,
    bits: float | None = None,
    mode: Literal["int8", "lossless"] | None = None,
    level: Literal["fast", "mid", "archive"] | None = None,
    per_channel: bool = True,
    skip: Collection[str] = (),
    empty: bool = False,
    fast: bool = False,
    progress: Callable[[int, int, str], object] | None = None,
) -> Compressed:
    """Replaces every nn.Linear in a model, in place, by a CompressedLinear with its own weight. Returns what was done.

    bits, mode, level, per_channel   of each weight, as in CompressedTensor. Default: mode "int8"
    skip      paths of layers to keep, of modules with all that is in them, or patterns: ("lm_head", "model.layers.0", "*.gate")
    empty     layers without weights, for load_state_dict() of a compressed model's state_dict(); the model may be on "meta"
    fast      of CompressedTensor.matmul
    progress  is called with layers done, layers in all and the path that was done

    Kept as they are: subclasses of nn.Linear, and layers whose weight is also another module's (a head that is tied to the
    embedding): packing would add bytes to those that stay. Two linear layers with one weight share it packed, too.
    Each weight's memory is given back before the next is coded, unless the caller holds it as well. An error leaves the layers that
    were done replaced and the others as they were.
    """
    if isinstance(model, nn.Linear):
        raise TypeError("this model is a linear layer itself; CompressedLinear.from_linear() makes its packed one")
    same_module, same_weight, kept = _choose(model, skip)
    layers: list[Layer] = []
    freed = 0
    for done, path in enumerate(same_module, 1):
        owner, name = _place(model, path)
        if same_module[path] != path:
            setattr(owner, name, model.get_submodule(same_module[path]))
        else:
            linear = cast(nn.Linear, getattr(owner, name))
            original = linear.weight.nbytes
            if empty:
                with torch.device(linear.weight.device if linear.bias is None else linear.bias.device):
                    packed = CompressedLinear(linear.in_features, linear.out_features, linear.bias is not None, fast=fast,
                                              dtype=linear.weight.dtype)
                packed.train(linear.training)
            elif same_weight[path] != path:
                first = cast(CompressedLinear, model.get_submodule(same_weight[path]))
                packed = CompressedLinear._holding(first.compressed, linear, fast)
            else:
                packed = CompressedLinear.from_linear(linear, bits=bits, mode=mode, level=level, per_channel=per_channel,
                                                      fast=fast)
                layers.append(Layer(path, packed.compressed.shape, packed.planes.nbytes, original,
                                    cast(float, packed.compressed.error_db)))
            setattr(owner, name, packed)
            del linear
            freed += original
            if freed >= _TRIM_EVERY:
                _sotto.give_back_memory()
                freed = 0
        if progress is not None:
            progress(done, len(same_module), path)
    _sotto.give_back_memory()
    return Compressed(model, layers, kept)


def load_packed(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> Any:
    """load_state_dict() with the tensors of a directory that `sotto pack` wrote (safetensors.torch.load_file): of a packed weight that
    is no CompressedLinear's, an embedding's for one, the numbers are loaded."""
    plain = {name for name, _ in model.named_parameters()}
    state: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        name = key.removesuffix(".planes")
        if name != key and name in plain:
            state[name] = torch.from_numpy(CompressedTensor.from_bytes(tensor.numpy(), copy=False).decode())
        else:
            state[key] = tensor
    return model.load_state_dict(state)

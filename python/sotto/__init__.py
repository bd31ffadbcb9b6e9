"""How much memory an audio-language model takes, to the byte, before a weight is read.

    >>> import sotto
    >>> report = sotto.plan("openai/whisper-large-v3", weights="bf16", batch=8, memory="6GiB", threads=2)
    >>> report
    <sotto.Report openai/whisper-large-v3: 5.30 GiB, bf16 weights, fp16 cache, batch 8, fits>
    >>> report.total_bytes, report.memory["kv_cache_bytes"], report.parameters["total"]
    (5691058304, 2553282560, 1543490560)
    >>> sotto.plan("openai/whisper-large-v3", weights="bf16", memory="2GiB", threads=2, require_fit=True)
    Traceback (most recent call last):
    sotto.OverBudget: openai/whisper-large-v3 does not fit in 2147483648 bytes (2.00 GiB): ...

A report is that of the command `sotto plan --json`: same fields, same bytes. Sizes are in bytes, of one process; only the
fields of `Report.report` are in GB (10^9 bytes). Options are arguments alone: of the environment, only what says where
models are (SOTTO_CATALOG, HF_HOME, HF_HUB_CACHE) and SOTTO_ISA is read.
"""
from __future__ import annotations

import html
import json
import operator
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex, TypedDict, cast

from . import _sotto

__all__ = ["Audio", "BadModel", "Budget", "CompressedTensor", "Error", "Memory", "MemoryManager", "OverBudget", "Phase", "Report",
           "Slot", "Usage", "Workload", "available_memory", "catalog", "parse_size", "plan"]
__version__: str = _sotto.version

_sotto.set_catalog_dir(os.fsencode(os.path.join(os.path.dirname(os.path.abspath(_sotto.__file__)), "catalog")))


class Error(Exception):
    """What sotto cannot do: one sentence that says what failed, where, and what to do.

    `code` is the command line's word for it: "failed", "usage", "bad_input", "bad_model" or "over_budget".
    """

    code: str = "failed"


class Usage(Error, ValueError):
    """An argument that cannot be read, or is out of its range."""

    code = "usage"


class BadModel(Error):
    """A model that is not there, or whose files contradict each other or are of no known architecture."""

    code = "bad_model"


class OverBudget(Error):
    """What does not fit, with `require_fit`. A budget of `smallest_budget_bytes` works, and one byte less does not."""

    code = "over_budget"
    required_bytes: int = 0  #: of the smallest plan that was tried
    budget_bytes: int = 0
    smallest_budget_bytes: int = 0


_ERRORS: dict[str, type[Error]] = {kind.code: kind for kind in (Usage, BadModel, OverBudget)}


class Memory(TypedDict):
    """Bytes that live in the peak phase, by what they are for; the parts add up to total_bytes."""

    weights_bytes: int
    kv_cache_bytes: int
    activation_bytes: int
    audio_bytes: int
    table_bytes: int
    runtime_bytes: int
    total_bytes: int


class Audio(TypedDict):
    """The audio of one sequence; what each second of it adds to the cache of an audio-language model, 0 for others."""

    seconds: float
    audio_tokens: int
    bytes_per_second_of_audio: float


class Workload(TypedDict):
    """What the plan is for, with everything chosen that was left open."""

    weights: str
    weights_stored: str
    kv: str
    context: int
    batch: int
    beam: int
    audio_seconds: float
    tp: int
    device: str
    threads: int
    isa: str


class Budget(TypedDict):
    """Bytes given (or free now), whether the plan fits in them, and the least that would do for this request."""

    bytes: int
    fits: bool
    smallest_budget_bytes: int


class Slot(TypedDict):
    """One tensor, cache or buffer; role: weight, kv, activation, audio, table or staging."""

    name: str
    bytes: int
    role: str


class Phase(TypedDict):
    """load, encode or generate: the slots that live in it and their sum, runtime not counted."""

    name: str
    live_bytes: int
    slots: list[Slot]


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if key == "phases":
            inner = {phase["name"]: {"live_bytes": phase["live_bytes"]} for phase in inner}
        if isinstance(inner, dict):
            flat.update(_flat(inner, f"{prefix}{key}."))
        else:
            flat[prefix + key] = inner
    return flat


class Report:
    """One plan. Compares, hashes and pickles as its JSON text. Its attributes are for reading; to_dict() is a copy."""

    __slots__ = ("_document", "_json", "_table")

    def __init__(self, json_text: str, table: str) -> None:
        """From to_json() and str() of another; `plan` is what makes reports."""
        self._json = json_text
        self._table = table
        self._document: dict[str, Any] = json.loads(json_text)

    @property
    def model(self) -> str:
        """Its name: owner/name, or the last component of its path."""
        return cast(str, self._document["model"])

    @property
    def model_type(self) -> str:
        """encoder-decoder, audio-llm or decoder."""
        return cast(str, self._document["model_type"])

    @property
    def total_bytes(self) -> int:
        """What the process takes: the peak phase's slots and the runtime."""
        return self.memory["total_bytes"]

    @property
    def fits(self) -> bool:
        """In `memory`, or in what is free now when that was not given."""
        return cast(bool, self._document["fits"])

    @property
    def smallest_budget_bytes(self) -> int:
        """The least `memory` that works for this request, with the smallest of the precisions left open."""
        return self.budget["smallest_budget_bytes"]

    @property
    def budget(self) -> Budget:
        """The budget and the verdict."""
        return cast(Budget, self._document["budget"])

    @property
    def parameters(self) -> Mapping[str, int]:
        """Numbers of parameters: "total", and disjoint parts that add up to it ("encoder", "decoder", ...)."""
        return cast("Mapping[str, int]", self._document["parameters"])

    @property
    def weights(self) -> Mapping[str, int]:
        """Bytes of the weights as kept, by part: "encoder_weight_bytes", ..."""
        return cast("Mapping[str, int]", self._document["weights"])

    @property
    def memory(self) -> Memory:
        """Bytes by what they are for."""
        return cast(Memory, self._document["memory"])

    @property
    def breakdown(self) -> Mapping[str, int]:
        """Bytes by component, whatever phase they live in: "decoder_kv_cache_bytes", "kv_bytes_per_token", ..."""
        return cast("Mapping[str, int]", self._document["breakdown"])

    @property
    def audio(self) -> Audio:
        """Seconds and tokens of audio."""
        return cast(Audio, self._document["audio"])

    @property
    def workload(self) -> Workload:
        """What the plan is for."""
        return cast(Workload, self._document["workload"])

    @property
    def report(self) -> Mapping[str, float]:
        """The figures in GB (10^9 bytes): "weight_memory_gb", "kv_cache_gb", "total_memory_gb", ..."""
        return cast("Mapping[str, float]", self._document["report"])

    @property
    def phases(self) -> Sequence[Phase]:
        """load, encode, generate: what lives when."""
        return cast("list[Phase]", self._document["phases"])

    @property
    def exact(self) -> bool:
        """Slots share addresses without a gap."""
        return cast(bool, self._document["exact"])

    def to_dict(self, *, flat: bool = False) -> dict[str, Any]:
        """The whole document, a copy. `flat`: one level of numbers and strings under dotted keys ("memory.total_bytes",
        "phases.encode.live_bytes"), without the slots: `pandas.DataFrame([r.to_dict(flat=True) for r in reports])`."""
        return _flat(self._document) if flat else cast("dict[str, Any]", json.loads(self._json))

    def to_json(self) -> str:
        """The document as `sotto plan --json` prints it."""
        return self._json

    def __repr__(self) -> str:
        w = self.workload
        fits = "fits" if self.fits else "does not fit"
        return (f"<sotto.Report {self.model}: {_sotto.human(self.total_bytes)}, {w['weights']} weights, "
                f"{w['kv']} cache, batch {w['batch']}, {fits}>")

    def __str__(self) -> str:
        return self._table

    def _repr_html_(self) -> str:
        names = {"table": "tables", "activation": "activations", "kv_cache": "KV cache", "runtime": "process"}
        rows = ""
        for key, size in cast("dict[str, int]", self.memory).items():
            name = key.removesuffix("_bytes")
            rows += f"<tr><th>{names.get(name, name)}</th><td>{size:,}</td><td>{_sotto.human(size)}</td></tr>"
        caption = html.escape(repr(self)[len("<sotto.Report "):-1])
        return f"<table><caption>{caption}</caption><tr><th></th><th>bytes</th><th></th></tr>{rows}</table>"

    def __eq__(self, other: object) -> bool:
        return self._json == other._json if isinstance(other, Report) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._json)

    def __reduce__(self) -> tuple[type[Report], tuple[str, str]]:
        return Report, (self._json, self._table)


def _raise_error(answer: str) -> None:
    """Raises when the answer is an error alone; a plan that is refused has a schema beside its error."""
    if not answer.startswith('{"error":'):
        return
    about = json.loads(answer)["error"]
    error = _ERRORS.get(about["code"], Error)(about["message"])
    vars(error).update({key: value for key, value in about.items() if key != "message"})
    raise error


def _integer(name: str, value: SupportsIndex | None, default: int = 0) -> int:
    number = default if value is None else operator.index(value)
    if abs(number) >= 2**31:
        raise Usage(f"{name} {number} is larger than anything that can be planned; see help(sotto.plan)")
    return number


def plan(
    model: str | os.PathLike[str],
    *,
    memory: SupportsIndex | str | None = None,
    weights: str = "auto",
    kv: str = "auto",
    context: SupportsIndex | None = None,
    batch: SupportsIndex | None = None,
    beam: SupportsIndex = 1,
    tp: SupportsIndex = 1,
    audio_seconds: float | None = None,
    encoder_seq_length: SupportsIndex | None = None,
    threads: SupportsIndex | None = None,
    require_fit: bool = False,
) -> Report:
    """Plans a model from its config: the report of `sotto plan MODEL --json`. Reads no weights; other threads go on.

    model          a directory, a config.json, or owner/name in the Hugging Face cache or in catalog()
    memory         budget: bytes, "6GiB", "6GB", "80%" of what is free. Default: none; `fits` says whether it fits now
    weights        "fp32", "fp16", "bf16", "int8", "int4", a GGUF type ("q4_k"), or "auto": the most precise that fits
    kv             cache of keys and values: "fp32", "fp16", "bf16" or "auto"
    context        decoder positions. Default: the model's maximum, at most 4096
    batch          sequences side by side, 1 to 64. Default: 1
    beam           beams of each sequence, 1 to 64
    tp             tensor-parallel ranks, 1 to 1024; figures are those of one rank
    audio_seconds  audio of each sequence, which an audio-language model's cache holds. Default: one window
    encoder_seq_length  encoder positions that cross-attention reads. Default: the published window
    threads        1 to 256. Default: the CPUs that this process may use
    require_fit    what does not fit raises OverBudget instead of coming back with `fits` False; without `memory`,
                   the budget is then what is free now

    Raises Usage (a ValueError) for arguments out of range, BadModel, OverBudget with require_fit, or another Error.
    """
    document, table = _sotto.plan(
        os.fsencode(model),
        str(operator.index(memory)) if memory is not None and not isinstance(memory, str) else memory,
        weights,
        kv,
        _integer("context", context),
        _integer("batch", batch),
        _integer("beam", beam),
        _integer("tp", tp),
        0.0 if audio_seconds is None else audio_seconds,
        _integer("encoder_seq_length", encoder_seq_length),
        _integer("threads", threads),
        require_fit,
    )
    _raise_error(document)
    return Report(document, json.loads(table).rstrip("\n"))


def parse_size(text: str) -> int:
    """Bytes of "512MiB", "6 GB", "1048576" or "80%" (of available_memory()). Raises Usage for anything else."""
    answer = _sotto.parse_size(text)
    _raise_error(answer)
    return cast(int, json.loads(answer)["bytes"])


def available_memory() -> int:
    """Bytes that this process may take now: the least of the machine's, its control groups' and its own limits."""
    return _sotto.available_memory()


def catalog() -> list[str]:
    """The published models whose configs come with the package (or stand in SOTTO_CATALOG), as owner/name, sorted."""
    top = os.fsdecode(_sotto.catalog_dir())
    return sorted(f"{file.parent.name}/{file.stem}" for file in pathlib.Path(top).glob("*/*.json")) if top else []


def _size(name: str, value: SupportsIndex | str | None) -> int | None:
    number = parse_size(value) if isinstance(value, str) else None if value is None else operator.index(value)
    if number is not None and not 0 <= number < 2**64:
        raise Usage(f"{name} {number} is not a number of bytes")
    return number


class MemoryManager:
    """Whether a model may be loaded beside what runs, and how much room a long-lived process has promised to loads.

        >>> import sotto
        >>> manager = sotto.MemoryManager(total="16GiB", available="10GiB", threads=2)  # of a machine that is not this one
        >>> manager.get_recommended_quantization()
        'Q5_K_M'
        >>> manager.register_model_load("Q5_K_M")  # checked, and held from now on
        >>> manager.can_load_model("Q4_0")
        False
        >>> manager.unregister_model()  # or the load failed
        >>> manager.can_load_model("Q4_0")
        True

    A host registers, loads, and calls model_is_resident(): from then on the system's own figures show what was held. Quantizations
    are "Q5_K_M", "Q4_K_M" and "Q4_0" for the default model, those of `sotto memory recommend --model` for another; without one,
    "Q4_K_M" or the best of them is meant. Unknown ones raise Usage. Sizes are bytes.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        profile: str = "default",
        total: SupportsIndex | str | None = None,
        available: SupportsIndex | str | None = None,
        min_free: SupportsIndex | str | None = None,
        keep_free: float = 0.25,
        when: str | None = None,
        audio_overhead: SupportsIndex | str = 0,
        threads: SupportsIndex | None = None,
    ) -> None:
        """`model` is what plan() takes; default: Qwen/Qwen2-Audio-7B-Instruct.

        profile           "default": a load takes what its plan says; "legacy": the published table for Qwen2-Audio, which holds
                          nothing for loads, and recommends what it then refuses
        total, available  of a made-up machine: bytes, or "16GiB". Default: what the system says at each call
        min_free          to stay free. Default: 512 MiB, 768 MiB for Q5_K_M
        keep_free, when   a share of the total that stays free, tested "before" a load, "after" it, or "auto": after it, unless
                          it leaves min_free twice over. Default: "auto"; legacy: "before"
        audio_overhead    bytes on top of each plan, for what a host holds beside it
        threads           those of the plan. Default: the CPUs that this process may use

        Raises Usage or BadModel.
        """
        self._manager = _sotto.MemoryManager()
        self.set_memory(total, available)
        _raise_error(self._manager.open(profile, b"" if model is None else os.fsencode(model), _size("min_free", min_free),
                                        keep_free, when or "", _size("audio_overhead", audio_overhead) or 0,
                                        _integer("threads", threads)))

    def set_memory(self, total: SupportsIndex | str | None = None, available: SupportsIndex | str | None = None) -> None:
        """Another made-up machine, bytes; None: what the system says. Raises Usage when more is available than there is."""
        total, available = _size("total", total), _size("available", available)
        if total is not None and available is not None and available > total:
            raise Usage(f"{available} bytes available are more than the {total} in all")
        self._manager.set_memory(total, available)

    def can_load_model(self, quantization: str | None = None) -> bool:
        """Whether it may be loaded now. It says nothing of the next moment: register_model_load() checks and holds in one step."""
        return cast(bool, self.check_load(quantization)["can_load"])

    def check_load(self, quantization: str | None = None) -> dict[str, Any]:
        """The document of `sotto memory check`: "can_load", "reason", "required_bytes", "missing_bytes", "largest_that_fits"."""
        answer = self._manager.check(quantization or "")
        _raise_error(answer)
        return cast("dict[str, Any]", json.loads(answer))

    def get_recommended_quantization(self) -> str | None:
        """The best that may be loaded now, None when nothing may; legacy: the table's word, whether or not it may be loaded."""
        return cast("str | None", json.loads(self._manager.recommend())["recommended"])

    def register_model_load(self, quantization: str | None = None, *, name: str = "model") -> None:
        """Holds the room of a load that begins. Raises OverBudget when there is none, Usage when the name is registered already
        (legacy: the new one takes its place)."""
        _raise_error(self._manager.register(quantization or "", name))

    def model_is_resident(self, name: str = "model", *, so_far: SupportsIndex | None = None) -> None:
        """The load is done, or `so_far` bytes of it are: they are held no longer. Raises Usage for an unknown name."""
        _raise_error(self._manager.resident(name, _size("so_far", so_far)))

    def unregister_model(self, name: str = "model") -> None:
        """Unloaded, or its load failed: the room is given back. A name that is not registered is no error."""
        self._manager.unregister(name)

    def check_memory_status(self) -> dict[str, Any]:
        """{"status": "ok", "warning" or "critical", "message": ...}, and the bytes below which it is so: a warning with less than
        twice min_free, critical with less than that, ok while nothing is loaded. Takes a sample for get_memory_stats()."""
        return cast("dict[str, Any]", json.loads(self._manager.check_status()))

    def get_memory_stats(self) -> dict[str, Any]:
        """The document of `sotto memory stats`: "total_bytes", "available_bytes", "used_bytes", "percent_used", "model_loaded",
        "current_quantization" and "model_requirements" (of the newest), "models", "history" (the last 600 samples)."""
        return cast("dict[str, Any]", json.loads(self._manager.stats()))

    def get_memory_threshold(self) -> int:
        """Bytes that the newest model takes with its min_free. Raises Usage when nothing is loaded."""
        answer = self._manager.threshold()
        _raise_error(answer)
        return cast(int, json.loads(answer)["bytes"])


from .compressed import CompressedTensor  # noqa: E402  (it needs the errors above)

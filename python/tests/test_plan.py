#!/usr/bin/env python3
"""The installed package sotto against the program that stands in SOTTO_BINARY (default: build/release/sotto).

    pip install . && python python/tests/test_plan.py        pandas and mypy are used where they are installed
"""
import copy
import doctest
import filecmp
import importlib.metadata
import importlib.util
import inspect
import json
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import time
import typing
import unittest
from concurrent.futures import ThreadPoolExecutor

for name in [name for name in os.environ if name.startswith("SOTTO_") and name != "SOTTO_BINARY"]:
    del os.environ[name]  # options of the command
os.environ["HF_HOME"] = "/nonexistent"

import sotto  # noqa: E402
from sotto import _sotto  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("SOTTO_BINARY", ROOT / "build/release/sotto")).resolve()
DEMO = ROOT / "models/demo-asr"
OPTIONS: list[dict] = [
    {},
    {"weights": "bf16", "batch": 8},
    {"weights": "int8", "kv": "fp16", "memory": "6GiB"},
    {"memory": 3 * 2**30, "threads": 3},
    {"weights": "q4_k", "context": 300, "beam": 4},
    {"tp": 2, "audio_seconds": 61.5, "batch": 2, "memory": "40 GB"},
    {"kv": "bf16", "memory": "1GiB"},
]


def command(model, *flags, **options) -> subprocess.CompletedProcess:
    for key, value in options.items():
        flags += (f"--{key.replace('_', '-')}", str(value))
    environment = {**os.environ, "SOTTO_CATALOG": os.fsdecode(_sotto.catalog_dir())}  # errors name it
    return subprocess.run([BINARY, "plan", model, *flags], capture_output=True, env=environment)


def copy_of_demo(directory: bytes) -> None:
    """Links to its files: a directory's own name is that of the model, a link's is not."""
    os.mkdir(directory)
    for file in os.listdir(os.fsencode(DEMO)):
        os.symlink(os.path.join(os.fsencode(DEMO), file), os.path.join(directory, file))


def without_free_memory(text: bytes, options: dict) -> bytes:
    """Without a budget the document says what was free, and whether it fits in that."""
    return text if "memory" in options else re.sub(rb'("budget":{"bytes":)\d+|("fits":)\w+', rb"\1\2", text)


class SameAsTheCommand(unittest.TestCase):
    refused = 0

    def compare(self, model, options):
        want = command(model, "--json", **options)
        try:
            report = sotto.plan(model, **options)
        except sotto.Usage as error:  # a context that does not hold the audio
            self.assertEqual(json.loads(want.stdout)["error"], {"code": "usage", "message": str(error)})
            self.refused += 1
            return
        self.assertIn(want.returncode, (0, 5), want.stderr)
        got = report.to_json().encode() + b"\n"
        self.assertEqual(without_free_memory(got, options), without_free_memory(want.stdout, options))
        self.assertEqual(want.returncode == 5, not report.fits and "memory" in options)

    def test_documents_are_the_same_bytes(self):
        names = sotto.catalog()
        self.assertGreaterEqual(len(names), 100)
        for i, model in enumerate(names):
            for options in (OPTIONS[i % len(OPTIONS)], OPTIONS[(i + 3) % len(OPTIONS)]):
                with self.subTest(model=model, options=options):
                    self.compare(model, options)
        self.assertLess(self.refused, 20)

    def test_directories_files_and_short_names(self):
        for model in (DEMO, str(DEMO), DEMO / "config.json", "tiny", "whisper-base"):
            with self.subTest(model=model):
                self.compare(model, {"memory": "64MiB"})

    def test_a_path_need_not_be_utf8(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(os.fsencode(directory), b"m\xff")
            copy_of_demo(path)
            self.compare(os.fsdecode(path), {"memory": "64MiB"})
            report = sotto.plan(os.fsdecode(path), memory="64MiB")
            self.assertEqual(report.model, "m\N{REPLACEMENT CHARACTER}")
            self.assertTrue(str(report).startswith("m\N{REPLACEMENT CHARACTER}: "))

    def test_tables(self):
        for model, memory in (("tiny", "1GiB"), ("large-v3", "1GiB"), ("Qwen/Qwen2-Audio-7B", 40 * 10**9), (DEMO, 1)):
            table = str(sotto.plan(model, memory=memory, batch=2))
            self.assertEqual(table + "\n", command(model, memory=memory, batch=2).stdout.decode())

    def test_version(self):
        said = subprocess.run([BINARY, "--version"], capture_output=True, text=True).stdout
        self.assertEqual(f"sotto {sotto.__version__}\n", said)
        self.assertEqual(sotto.__version__, importlib.metadata.version("sotto"))


class Errors(unittest.TestCase):
    def raised(self, model, kind, **options) -> sotto.Error:
        """The exception, which is of this kind and has the command's sentence and code."""
        with self.assertRaises(kind) as caught:
            sotto.plan(model, **options)
        if not options.pop("require_fit", False):
            said = json.loads(command(model, "--json", **options).stdout)["error"]
            self.assertEqual(str(caught.exception), said["message"])
            self.assertEqual(caught.exception.code, said["code"])
        return caught.exception

    def test_usage(self):
        for options in ({"memory": "much"}, {"memory": 0}, {"memory": -1}, {"memory": 2**64}, {"weights": "fp17"},
                        {"kv": "q99"}, {"batch": 65}, {"batch": -1}, {"beam": 0}, {"tp": 1025}, {"context": 449},
                        {"context": -2}, {"threads": 257}, {"threads": -1}, {"audio_seconds": -1},
                        {"audio_seconds": 2e7}):
            with self.subTest(options=options):
                self.assertIsInstance(self.raised("openai/whisper-tiny", sotto.Usage, **options), ValueError)
        for model in ("", "a b"):
            self.raised(model, sotto.Usage)
        for options in ({"memory": ""}, {"audio_seconds": float("nan")}, {"batch": 2**31}, {"threads": 2**32 + 1},
                        {"context": -2**80}):
            with self.subTest(options=options), self.assertRaises(sotto.Usage):
                sotto.plan("openai/whisper-tiny", **options)
        with self.assertRaises(sotto.Usage):
            sotto.plan("a\0b")

    def test_wrong_types(self):
        for options in ({"memory": 1.5}, {"batch": "8"}, {"batch": 1.0}, {"weights": None}, {"audio_seconds": "30"},
                        {"speed": 1}):
            with self.subTest(options=options), self.assertRaises(TypeError):
                sotto.plan("openai/whisper-tiny", **options)
        with self.assertRaises(TypeError):
            sotto.plan(3)

    def test_bad_models(self):
        self.raised("nobody/nothing", sotto.BadModel)
        self.raised("/nonexistent", sotto.BadModel)
        for text in (b"", b"{", b"[]", b"{}", b'{"model_type": "unheard"}', b'{"model_type": "whisper", "d_model": -1}',
                     b"\xff" * 9, b"[" * 100_000):
            with self.subTest(text=text[:40]), tempfile.TemporaryDirectory() as directory:
                pathlib.Path(directory, "config.json").write_bytes(text)
                self.raised(directory, sotto.BadModel)
        with tempfile.TemporaryDirectory() as directory:  # weights that contradict the config
            model = pathlib.Path(directory, "model")
            copy_of_demo(os.fsencode(model))
            config = json.loads((DEMO / "config.json").read_text())
            (model / "config.json").unlink()
            (model / "config.json").write_text(json.dumps({**config, "encoder_layers": config["encoder_layers"] + 1}))
            self.raised(model, sotto.BadModel)

    def test_over_budget(self):
        report = sotto.plan("openai/whisper-small", memory="100MiB")
        self.assertFalse(report.fits)
        error = self.raised("openai/whisper-small", sotto.OverBudget, memory="100MiB", require_fit=True)
        self.assertEqual(str(error), report.to_dict()["error"]["message"])
        self.assertEqual((error.code, error.budget_bytes), ("over_budget", 100 * 2**20))
        self.assertEqual(error.smallest_budget_bytes, report.smallest_budget_bytes)
        self.assertGreaterEqual(error.required_bytes, error.smallest_budget_bytes)
        fitting = sotto.plan("openai/whisper-small", memory=error.smallest_budget_bytes, require_fit=True)
        self.assertEqual(fitting.total_bytes, error.smallest_budget_bytes)
        self.raised("openai/whisper-small", sotto.OverBudget, memory=error.smallest_budget_bytes - 1, require_fit=True)
        # Without a budget it is what is free now; this takes more than a terabyte.
        self.raised("deepseek-ai/DeepSeek-V3", sotto.OverBudget, kv="fp32", batch=64, context=131072, require_fit=True)

    def test_errors_pickle(self):
        error = self.raised("openai/whisper-small", sotto.OverBudget, memory=7, require_fit=True)
        again = pickle.loads(pickle.dumps(error))
        self.assertEqual((type(again), str(again), vars(again)), (type(error), str(error), vars(error)))


class Reports(unittest.TestCase):
    def setUp(self):
        self.report = sotto.plan("openai/whisper-tiny", memory="200MiB", batch=2, threads=2)

    def test_every_field_has_its_attribute(self):
        document = self.report.to_dict()
        for key in document.keys() - {"schema"}:
            self.assertEqual(getattr(self.report, key), document[key])
        self.assertEqual(self.report.total_bytes, document["memory"]["total_bytes"])
        self.assertEqual(self.report.smallest_budget_bytes, document["budget"]["smallest_budget_bytes"])
        for value, kind in ((document["memory"], sotto.Memory), (document["audio"], sotto.Audio),
                            (document["workload"], sotto.Workload), (document["budget"], sotto.Budget),
                            (document["phases"][0], sotto.Phase), (document["phases"][0]["slots"][0], sotto.Slot)):
            types = typing.get_type_hints(kind)
            self.assertEqual(value.keys(), types.keys())
            for key, inner in value.items():
                self.assertIsInstance(inner, typing.get_origin(types[key]) or types[key], key)

    def test_sums(self):
        memory = dict(self.report.memory)
        self.assertEqual(memory.pop("total_bytes"), sum(memory.values()))
        parameters = dict(self.report.parameters)
        self.assertEqual(parameters.pop("total"), sum(parameters.values()))
        for phase in self.report.phases:
            self.assertEqual(phase["live_bytes"], sum(slot["bytes"] for slot in phase["slots"]))

    def test_dictionaries(self):
        self.assertEqual(self.report.to_dict(), json.loads(self.report.to_json()))
        self.report.to_dict()["memory"]["total_bytes"] = 0  # a copy
        self.assertGreater(self.report.total_bytes, 0)
        flat = self.report.to_dict(flat=True)
        self.assertEqual(flat["memory.total_bytes"], self.report.total_bytes)
        self.assertEqual([flat[f"phases.{p['name']}.live_bytes"] for p in self.report.phases],
                         [p["live_bytes"] for p in self.report.phases])
        self.assertTrue(all(isinstance(value, (int, float, str)) for value in flat.values()), flat)

    def test_pandas(self):
        if importlib.util.find_spec("pandas") is None:
            self.skipTest("pandas is not installed")
        import pandas
        reports = [sotto.plan(name, threads=2) for name in ("tiny", "base", "meta-llama/Llama-3.2-1B")]
        table = pandas.DataFrame([report.to_dict(flat=True) for report in reports])
        self.assertEqual(list(table["memory.total_bytes"]), [report.total_bytes for report in reports])
        self.assertEqual(table["memory.total_bytes"].dtype.kind, "i")
        self.assertEqual(list(table["model"])[2], "meta-llama/Llama-3.2-1B")

    def test_words(self):
        self.assertRegex(repr(self.report),
                         r"^<sotto\.Report openai/whisper-tiny: [\d.]+ MiB, \w+ weights, \w+ cache, batch 2, fits>$")
        self.assertIn("does not fit", repr(sotto.plan("tiny", memory=1)))
        self.assertIn(f"{self.report.total_bytes:,}", self.report._repr_html_())
        with tempfile.TemporaryDirectory() as directory:
            copy_of_demo(os.fsencode(path := os.path.join(directory, "<b>")))
            self.assertIn("&lt;b&gt;:", sotto.plan(path)._repr_html_())

    def test_values(self):
        same = sotto.plan("openai/whisper-tiny", memory="200MiB", batch=2, threads=2)
        for other in (same, copy.deepcopy(same), pickle.loads(pickle.dumps(same))):
            self.assertEqual((other, hash(other), str(other)), (self.report, hash(self.report), str(self.report)))
        self.assertNotEqual(self.report, sotto.plan("tiny", memory="200MiB", batch=3, threads=2))
        self.assertNotEqual(self.report, 1)


class Sizes(unittest.TestCase):
    def test_sizes(self):
        for text, size in (("6GiB", 6 << 30), ("6GB", 6 * 10**9), ("1.5 KiB", 1536), ("17", 17),
                           (f"{2**64 - 1}", 2**64 - 1)):
            self.assertEqual(sotto.parse_size(text), size)
        for text in ("", "many", "-1", "0", "1e3", "101%", "6 parsecs"):
            with self.subTest(text=text), self.assertRaises(sotto.Usage):
                sotto.parse_size(text)
        self.assertGreater(sotto.available_memory(), 1 << 20)
        self.assertLess(abs(sotto.parse_size("50%") / sotto.available_memory() - 0.5), 0.4)

    def test_numbers_of_other_libraries(self):
        class Number:
            def __index__(self) -> int:
                return 2

        self.assertEqual(sotto.plan("tiny", batch=Number(), threads=Number()).workload["batch"], 2)


class Threads(unittest.TestCase):
    def test_plans_from_eight_threads_at_once(self):
        names = [name for name in sotto.catalog() if "whisper" in name.lower() or "Llama" in name][:12]

        def text(name: str) -> str:
            return sotto.plan(name, memory="4GiB", threads=2).to_json()

        alone = [text(name) for name in names]
        with ThreadPoolExecutor(8) as pool:
            for _ in range(3):
                self.assertEqual(list(pool.map(text, names)), alone)

    def test_other_threads_run_while_one_plans(self):
        # With so long an interval a thread runs until it waits or lets go by itself; this one does so in a plan only.
        count, stop = [0], threading.Event()

        def counting() -> None:
            while not stop.is_set():
                count[0] += 1
                time.sleep(0)

        interval = sys.getswitchinterval()
        other = threading.Thread(target=counting)
        other.start()
        sys.setswitchinterval(1e6)
        try:
            before, tries = count[0], 0
            while count[0] == before and tries < 500:
                tries += 1
                _sotto.plan(b"openai/whisper-large-v3", None, "auto", "auto", 0, 0, 1, 1, 0.0, 0, 1, False)
            self.assertGreater(count[0], before, "no other thread ran in 500 plans")
        finally:
            sys.setswitchinterval(interval)
            stop.set()
            other.join()


class Package(unittest.TestCase):
    def setUp(self):
        self.place = pathlib.Path(_sotto.__file__).parent

    def test_the_catalogue_is_in_the_package(self):
        self.assertNotEqual(self.place, ROOT / "python/sotto", "this is about the installed package")
        self.assertEqual(pathlib.Path(os.fsdecode(_sotto.catalog_dir())), self.place / "catalog")
        source, ours = ROOT / "catalog", [f"{name}.json" for name in sotto.catalog()]
        self.assertEqual(set(ours), {str(path.relative_to(source)) for path in source.glob("*/*.json")})
        self.assertEqual(filecmp.cmpfiles(source, self.place / "catalog", ours, shallow=False)[0], ours)

    def test_another_catalogue(self):
        with tempfile.TemporaryDirectory() as directory:
            os.makedirs(os.path.join(directory, "acme"))
            os.symlink(ROOT / "catalog/openai/whisper-tiny.json", os.path.join(directory, "acme/v1.5.json"))
            code = "import sotto; print(sotto.catalog(), sotto.plan('acme/v1.5').model)"
            said = subprocess.run([sys.executable, "-c", code], env={**os.environ, "SOTTO_CATALOG": directory},
                                  capture_output=True, text=True)
            self.assertEqual(said.stdout, "['acme/v1.5'] acme/v1.5\n", said.stderr)

    def test_it_needs_no_library_but_the_compilers(self):
        linked = subprocess.run(["ldd", _sotto.__file__], capture_output=True, text=True, check=True).stdout
        names = set(re.findall(r"\b(lib[\w+]+)\.so", linked))
        self.assertLessEqual(names, {"libstdc++", "libgcc_s", "libm", "libc", "libpthread"})

    def test_the_stable_abi_from_python_3_12_on(self):
        suffix = ".abi3.so" if sys.version_info >= (3, 12) else ".so"  # nanobind leaves it without a word when it can
        self.assertTrue(_sotto.__file__.endswith(suffix), _sotto.__file__)

    def test_everything_public_has_help(self):
        for name in sotto.__all__:
            thing = getattr(sotto, name)
            self.assertTrue(inspect.getdoc(thing), name)
            for member, value in vars(thing).items() if inspect.isclass(thing) else ():
                if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                    self.assertTrue(inspect.getdoc(value), f"{name}.{member}")
        options = set(inspect.signature(sotto.plan).parameters)
        self.assertEqual(options, set(re.findall(r"^(\w+)  +", inspect.getdoc(sotto.plan), re.M)))

    def test_types(self):
        if importlib.util.find_spec("mypy") is None:
            self.skipTest("mypy is not installed")
        self.assertTrue((self.place / "py.typed").exists() and (self.place / "_sotto.pyi").exists())
        with tempfile.TemporaryDirectory() as directory:
            modules = ["sotto", "sotto.compressed", *(["sotto.torch"] if importlib.util.find_spec("torch") else [])]
            for what in ([word for name in modules for word in ("-m", name)], [str(ROOT / "python/tests/typed_use.py")]):
                ran = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", directory, *what],
                                     cwd=directory, capture_output=True, text=True)
                self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)

    def test_examples(self):
        os.environ["SOTTO_ISA"] = "avx2"  # whose layout the printed figures are of
        self.addCleanup(os.environ.pop, "SOTTO_ISA")
        try:
            sotto.plan("tiny")
        except sotto.Usage as error:
            self.skipTest(str(error))
        for result in (doctest.testmod(sotto, optionflags=doctest.ELLIPSIS),
                       doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=doctest.ELLIPSIS)):
            self.assertGreater(result.attempted, 1)
            self.assertEqual(result.failed, 0)


if __name__ == "__main__":
    unittest.main()

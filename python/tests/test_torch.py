#!/usr/bin/env python3
"""sotto.torch of the installed package. Needs torch and transformers.

    pip install . torch transformers && python python/tests/test_torch.py
"""
import copy
import doctest
import io
import os
import pathlib
import subprocess
import sys
import unittest

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np  # noqa: E402
import sotto  # noqa: E402

try:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
except ImportError as error:
    print(f"SKIP: {error.name} is not installed")
    sys.exit(0)

import sotto.torch  # noqa: E402
from sotto.torch import CompressedLinear, compress, load_packed  # noqa: E402

torch.set_num_threads(2)


def linear(columns=96, rows=70, bias=True, dtype=torch.float32) -> torch.nn.Linear:
    torch.manual_seed(columns + rows)
    return torch.nn.Linear(columns, rows, bias, dtype=dtype)


def llama(layers=3, tied=False, **sizes) -> LlamaForCausalLM:
    torch.manual_seed(1)
    sizes = {"hidden_size": 64, "intermediate_size": 176, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 300, **sizes}
    return LlamaForCausalLM(LlamaConfig(num_hidden_layers=layers, tie_word_embeddings=tied, initializer_range=0.1, **sizes)).eval()


IDS = torch.arange(12).reshape(2, 6) * 7 % 300


class Linear(unittest.TestCase):
    def test_it_is_linear_with_the_decoded_weight(self):
        for options in ({}, {"bits": 4.3}, {"bits": 10}, {"mode": "int8", "per_channel": False, "level": "archive"}):
            for bias in (True, False):
                old = linear(bias=bias)
                new = CompressedLinear.from_linear(old, **options)
                for shape in ((96,), (1, 96), (5, 96), (2, 3, 4, 96), (0, 96)):
                    x = torch.randn(shape)
                    want = torch.nn.functional.linear(x, new.weight, old.bias)
                    torch.testing.assert_close(new(x), want, rtol=1e-5, atol=1e-5)

    def test_types(self):
        for dtype, near in ((torch.float16, 2e-3), (torch.bfloat16, 2e-2)):
            old = linear(dtype=dtype)
            for new in (CompressedLinear.from_linear(old, mode="lossless"), CompressedLinear.from_linear(old, mode="int8")):
                self.assertEqual(new.weight.dtype, dtype)
                x = torch.randn(4, 96, dtype=dtype)
                self.assertEqual(new(x).dtype, dtype)
                self.assertEqual(new(x.float()).dtype, torch.float32)
                want = torch.nn.functional.linear(x.float(), new.weight.float(), old.bias.float())
                torch.testing.assert_close(new(x).float(), want, rtol=near, atol=near)
            self.assertTrue(torch.equal(CompressedLinear.from_linear(old, mode="lossless").weight, old.weight))
        new = CompressedLinear.from_linear(linear())
        for x in (torch.randn(3, 96).double(), torch.ones(3, 96, dtype=torch.int32), torch.randn(3, 96, device="meta")):
            with self.assertRaises(TypeError):
                new(x)
        with self.assertRaises(ValueError):
            new(torch.randn(3, 95))

    def test_fast(self):
        old, x = linear(512, 256), torch.randn(9, 512)
        near = CompressedLinear.from_linear(old, bits=4.3, fast=True)(x)
        want = CompressedLinear.from_linear(old, bits=4.3)(x)
        self.assertFalse(torch.equal(near, want))
        self.assertLess((near - want).norm() / want.norm(), 0.01)

    def test_memory_is_shared(self):
        new = CompressedLinear.from_linear(linear())
        self.assertEqual(new.planes.data_ptr(), new.compressed.payload.ctypes.data)
        self.assertEqual([name for name, _ in new.named_parameters()], ["bias"])
        self.assertEqual(new.planes.dtype, torch.uint8)

    def test_gradients(self):
        old = linear()
        new = CompressedLinear.from_linear(old, bits=4.3)
        x = torch.randn(2, 5, 96, requires_grad=True)
        y = x.detach().clone().requires_grad_()
        weight = new.weight
        grad = torch.randn(2, 5, 70)
        new(x).backward(grad)
        got_bias, new.bias.grad = new.bias.grad.clone(), None
        torch.nn.functional.linear(y, weight, new.bias).backward(grad)
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(got_bias, new.bias.grad, rtol=1e-5, atol=1e-5)

    def test_copies_and_files(self):
        new = CompressedLinear.from_linear(linear(), bits=5)
        x = torch.randn(3, 96)
        file = io.BytesIO()
        torch.save(new, file)
        file.seek(0)
        for again in (copy.deepcopy(new), torch.load(file, weights_only=False), copy.deepcopy(new).to("cpu").half().float()):
            self.assertNotEqual(again.planes.data_ptr(), new.planes.data_ptr())
            torch.testing.assert_close(again(x), new(x), rtol=1e-3, atol=1e-3)
        self.assertEqual(repr(new), f"CompressedLinear(in_features=96, out_features=70, bias=True, {new.compressed.bits:.2f} bits a weight)")

    def test_state_dict(self):
        new, other = CompressedLinear.from_linear(linear(), bits=5), CompressedLinear(96, 70)
        x = torch.randn(3, 96)
        with self.assertRaisesRegex(RuntimeError, "no weight yet"):
            other(x)
        self.assertEqual(list(new.state_dict()), ["bias", "weight.planes"])
        for assign in (False, True):
            other.load_state_dict(new.state_dict(), assign=assign)
            self.assertEqual(other.planes.data_ptr() == new.planes.data_ptr(), assign)
            self.assertTrue(torch.equal(other(x), new(x)))
        broken = new.state_dict()
        broken["weight.planes"] = broken["weight.planes"].clone()
        broken["weight.planes"][200] ^= 1
        for state, message in ((broken, "damaged"), (CompressedLinear.from_linear(linear(64)).state_dict(), "is 70 x 64, not 70 x 96"),
                               (linear().state_dict(), "Missing key.*weight.planes")):
            with self.assertRaisesRegex(RuntimeError, "(?s)" + message):
                other.load_state_dict(state)
            self.assertTrue(torch.equal(other(x), new(x)))
        new.planes[200] ^= 1  # is looked at again
        with self.assertRaisesRegex(ValueError, "damaged"):
            new(x)


class Models(unittest.TestCase):
    def test_every_layer_has_its_own_weight(self):
        model = llama()
        before = {path: module.weight.detach().clone() for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
        seen = []
        report = compress(model, bits=6, progress=lambda done, total, path: seen.append((done, total, path)))
        self.assertEqual([layer.path for layer in report.layers], list(before))
        self.assertEqual(len(before), 7 * 3 + 1)
        self.assertEqual([(at, 22, path) for at, path in enumerate(before, 1)], seen)
        self.assertFalse(report.kept)
        pointers = set()
        for path, weight in before.items():
            new = model.get_submodule(path)
            self.assertIs(type(new), CompressedLinear)
            self.assertLess((new.weight - weight).norm() / weight.norm(), 0.05, path)
            pointers.add(new.planes.data_ptr())
        self.assertEqual(len(pointers), 22)
        self.assertFalse([module for module in model.modules() if type(module) is torch.nn.Linear])

    def test_logits_and_generation(self):
        for options, near in (({"bits": 8}, 0.03), ({}, 0.05), ({"bits": 4.5, "level": "mid"}, 0.4)):
            model = llama()
            with torch.no_grad():
                want = model(IDS).logits
                compress(model, **options)
                got = model(IDS).logits
                self.assertLess((got - want).norm() / want.norm(), near, options)
                dense = llama()
                for path, module in dense.named_modules():
                    if isinstance(module, torch.nn.Linear):
                        module.weight.copy_(model.get_submodule(path).weight)
                torch.testing.assert_close(got, dense(IDS).logits, rtol=1e-4, atol=1e-4)
                ids = [m.generate(IDS, max_new_tokens=8, do_sample=False, pad_token_id=0) for m in (model, dense)]
            self.assertEqual(ids[0].shape, (2, 14))
            self.assertTrue(torch.equal(*ids))

    def test_lossless(self):
        model = llama().to(torch.bfloat16)
        before = {path: module.weight.detach().clone() for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
        report = compress(model, mode="lossless")
        self.assertEqual(report.error_db, float("inf"))
        self.assertGreater(report.ratio_over_fp16, 1.2)
        for path, weight in before.items():
            self.assertTrue(torch.equal(model.get_submodule(path).weight, weight))

    def test_state_dict_of_a_model(self):
        model = llama()
        compress(model, bits=5)
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        with torch.device("meta"):
            on_meta = llama()
        state = torch.load(file)
        for empty, assign in ((llama(), False), (on_meta, True)):
            report = compress(empty, empty=True)
            self.assertFalse(report.layers)
            self.assertEqual(empty.load_state_dict(state, strict=not assign, assign=assign).missing_keys, [])
            if assign:  # buffers that are in no state_dict
                empty.model.rotary_emb = model.model.rotary_emb
            with torch.no_grad():
                self.assertTrue(torch.equal(empty(IDS).logits, model(IDS).logits))

    def test_tied_head(self):
        model = llama(tied=True)
        report = compress(model)
        self.assertEqual(len(report.layers), 21)
        self.assertEqual(report.kept, {"lm_head": "its weight is model.embed_tokens.weight, which would stay beside a packed copy"})
        self.assertIs(model.lm_head.weight, model.model.embed_tokens.weight)

    def test_shared_layers(self):
        class Both(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b, self.own = linear(bias=True), linear(bias=True), linear()
                self.b.weight = self.a.weight
                self.again = self.a
                self.odd = torch.nn.modules.linear.NonDynamicallyQuantizableLinear(8, 8)

        model = Both()
        torch.nn.init.normal_(model.own.weight)
        report = compress(model)
        self.assertEqual([layer.path for layer in report.layers], ["a", "own"])
        self.assertIs(model.again, model.a)
        self.assertIsNot(model.b, model.a)
        self.assertEqual(model.b.planes.data_ptr(), model.a.planes.data_ptr())
        self.assertNotEqual(model.own.planes.data_ptr(), model.a.planes.data_ptr())
        self.assertEqual(list(report.kept), ["odd"])

    def test_skip(self):
        for skip, count in ((("lm_head",), 21), (("model.layers.1",), 15), (("*.q_proj", "*.k_proj"), 16), (("model",), 1)):
            model = llama()
            report = compress(model, skip=skip)
            self.assertEqual((len(report.layers), len(report.kept)), (count, 22 - count))
            for path in report.kept:
                self.assertIs(type(model.get_submodule(path)), torch.nn.Linear)
        for skip in (("head",), ("q_proj",), ("model.layers.7",)):
            with self.assertRaisesRegex(ValueError, "skip names"):
                compress(llama(), skip=skip)
        with self.assertRaises(TypeError):
            compress(linear())

    def test_report(self):
        report = compress(llama(), bits=4.5, skip=("lm_head",))
        lines = str(report).splitlines()
        self.assertEqual(len(lines), 1 + 21 + 1 + 1)
        self.assertIn("lm_head: kept, skipped", lines)
        self.assertRegex(lines[-1], r"^21 layers, .* bits a weight, .*x below int8, .*x below fp16, [0-9.]+ dB$")
        self.assertEqual(report.original_bytes, 4 * report.size)
        self.assertAlmostEqual(report.ratio_over_fp16, 2 * report.size / report.nbytes)
        worst, best = min(layer.error_db for layer in report.layers), max(layer.error_db for layer in report.layers)
        self.assertTrue(worst < report.error_db < best)

    def test_memory_falls_layer_by_layer(self):
        """In a process of its own: what is resident after each layer, against what was there before."""
        program = """
import pathlib, torch, sotto.torch
resident = lambda: int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096
model = torch.nn.Sequential(*[torch.nn.Linear(1024, 3072, bias=False) for _ in range(12)])   # 12 MiB each
sotto.torch.compress(torch.nn.Sequential(torch.nn.Linear(1024, 3072)), bits=4.5)   # what coding takes for itself
seen = [resident()]
report = sotto.torch.compress(model, bits=4.5, progress=lambda *_: seen.append(resident()))
print(report.original_bytes, report.nbytes, *seen)
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        original, packed, first, *seen = map(int, done.stdout.split())
        each = (original - packed) / 12
        for done_layers, now in enumerate(seen, 1):
            # Three of them may be on their way back.
            self.assertLess(now, first - each * (done_layers - 4), (done_layers, seen))
        self.assertLess(seen[-1], first - 0.9 * (original - packed))

    def test_a_packed_file_of_the_command(self):
        root = pathlib.Path(__file__).resolve().parents[2]
        binary = pathlib.Path(os.environ.get("SOTTO_BINARY", root / "build/release/sotto")).resolve()
        if not binary.exists():
            self.skipTest(f"{binary} is not built")
        import tempfile

        from safetensors.torch import load_file
        with tempfile.TemporaryDirectory() as folder:
            model = llama(2)
            model.save_pretrained(f"{folder}/plain")
            subprocess.run([binary, "pack", f"{folder}/plain", "--bits", "6", "-o", f"{folder}/packed"], check=True, capture_output=True)
            packed = load_file(f"{folder}/packed/model.safetensors")
        empty = llama(2)
        compress(empty, empty=True)
        self.assertIn("model.embed_tokens.weight.planes", packed)
        self.assertFalse(load_packed(empty, packed).missing_keys)
        with torch.no_grad():
            want, got = model(IDS).logits, empty(IDS).logits
        self.assertLess((got - want).norm() / want.norm(), 0.2)


class Documented(unittest.TestCase):
    def test_sessions(self):
        text = pathlib.Path(__file__).resolve().parents[2] / "docs/python.md"
        with np.printoptions(legacy=False):
            self.assertEqual(doctest.testfile(str(text), module_relative=False, optionflags=doctest.ELLIPSIS).failed, 0)


if __name__ == "__main__":
    unittest.main()

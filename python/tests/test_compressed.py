#!/usr/bin/env python3
"""sotto.CompressedTensor of the installed package.

    pip install . numpy && python python/tests/test_compressed.py
"""
import doctest
import pickle
import threading
import time
import unittest

import numpy as np
import sotto
from sotto import compressed

SHAPES = [(1, 1), (3, 5), (16, 4), (17, 64), (70, 129), (256, 512)]


def weights(shape, seed=1) -> np.ndarray:
    """Heavy tails, as trained weights have them."""
    return (np.random.default_rng(seed).standard_t(6, shape) * 0.02).astype(np.float32)


def variants(w: np.ndarray):
    yield sotto.CompressedTensor(w)
    yield sotto.CompressedTensor(w, mode="int8", per_channel=False)
    yield sotto.CompressedTensor(w.astype(np.float16), mode="lossless")
    yield sotto.CompressedTensor(np.rint(w * 800).clip(-128, 127).astype(np.int8))
    for bits in (3, 4.3, 9.5):
        yield sotto.CompressedTensor(w, bits=bits, level="mid")


class Coding(unittest.TestCase):
    def test_bits_are_met(self):
        w = weights((512, 1024))
        for level in ("fast", "archive"):
            errors = []
            for bits in (2.2, 3, 4.3, 4.5, 6, 8, 11):
                t = sotto.CompressedTensor(w, bits=bits, level=level)
                self.assertLessEqual(t.bits, bits)
                self.assertGreater(t.bits, bits * 0.99, (bits, level))
                self.assertEqual(t.nbytes, len(t.to_bytes()))
                self.assertLess(t.entropy, t.bits)
                errors.append(t.error_db)
            self.assertEqual(errors, sorted(errors))

    def test_errors_are_those_of_what_is_decoded(self):
        for shape in SHAPES:
            for t in variants(weights(shape)):
                w = np.rint(weights(shape) * 800).clip(-128, 127) if t.dtype == np.int8 else weights(shape).astype(t.dtype)
                difference = w.astype(np.float64) - t.decode().astype(np.float64)
                self.assertAlmostEqual(t.max_error, np.abs(difference).max(), delta=1e-9)
                if not difference.any():
                    self.assertEqual(t.error_db, np.inf)
                    continue
                self.assertAlmostEqual(t.error_db, 10 * np.log10((w.astype(np.float64)**2).sum() / (difference**2).sum()), delta=0.01)

    def test_int8_is_lossless_over_int8(self):
        w = weights((200, 300))
        w[7] = 0
        for per_channel in (True, False):
            most = np.abs(w).max(axis=1, keepdims=True) if per_channel else np.abs(w).max()
            inverse = np.divide(np.float32(127), most, out=np.zeros_like(most), where=most > 0)
            codes = np.rint(w * inverse)
            t = sotto.CompressedTensor(w, mode="int8", per_channel=per_channel)
            np.testing.assert_array_equal(t.decode(), codes * (most / np.float32(127)))
            self.assertGreater(t.ratio_over_int8, 1)

    def test_int8_arrays_and_halves_bit_for_bit(self):
        codes = np.random.default_rng(2).integers(-128, 128, (40, 77), np.int8)
        t = sotto.CompressedTensor(codes)
        self.assertEqual((t.decode().dtype, t.scheme, t.error_db, t.max_error), (np.int8, "plain", np.inf, 0))
        np.testing.assert_array_equal(t.decode(), codes)
        half = weights((64, 99)).astype(np.float16)
        t = sotto.CompressedTensor(half, mode="lossless")
        np.testing.assert_array_equal(t.decode().view(np.uint16), half.view(np.uint16))
        self.assertEqual(t.error_db, np.inf)
        narrow = sotto.CompressedTensor((weights((256, 512)) * 100).astype(np.int8))
        self.assertGreater(narrow.ratio_over_int8, 2)
        self.assertLess(narrow.entropy, 3)

    def test_zeros(self):
        for options in ({}, {"bits": 4}):
            t = sotto.CompressedTensor(np.zeros((20, 30), np.float32), **options)
            self.assertFalse(t.decode().any())
            self.assertEqual(t.error_db, np.inf)

    def test_entropy(self):
        codes = np.random.default_rng(3).choice(np.array([-3, 0, 1, 2], np.int8), (33, 51), p=[0.5, 0.25, 0.125, 0.125])
        shares = np.unique(codes, return_counts=True)[1] / codes.size
        self.assertAlmostEqual(sotto.CompressedTensor(codes).entropy, -(shares * np.log2(shares)).sum(), places=9)

    def test_a_view_is_read_as_what_it_shows(self):
        w = weights((60, 80))
        for view in (w.T, w[::2], w[:, 10:20], w[::-1].astype(">f4")):
            np.testing.assert_array_equal(sotto.CompressedTensor(view).decode(),
                                          sotto.CompressedTensor(np.array(view, np.float32, order="C")).decode())

    def test_bad_arguments(self):
        w = weights((20, 30))
        for error, array, options in (
                (ValueError, w, {"bits": 1}), (ValueError, w, {"bits": 13}), (ValueError, w, {"bits": float("nan")}),
                (ValueError, w, {"mode": "int4"}), (ValueError, w, {"bits": 4, "mode": "int8"}), (ValueError, w, {"level": "best"}),
                (ValueError, w, {"mode": "lossless"}), (ValueError, w, {"threads": -1}), (ValueError, w[0], {}),
                (ValueError, w[:0], {}), (ValueError, w[None], {}), (ValueError, w.astype(np.int8), {"bits": 4}),
                (ValueError, np.where(w == w.max(), np.nan, w), {}), (ValueError, np.where(w == w.max(), np.inf, w), {"bits": 4}),
                (TypeError, w.astype(np.float64), {}), (TypeError, w.astype(np.int32), {}), (TypeError, [[1.0]], {}),
                (TypeError, w, {"bits": "4"})):
            with self.subTest(options=options, array=type(array)), self.assertRaises(error):
                sotto.CompressedTensor(array, **options)


class Products(unittest.TestCase):
    def test_they_are_those_of_the_decoded_weights(self):
        for shape in SHAPES:
            for t in variants(weights(shape)):
                for rows in (1, 5, 100):
                    x = np.random.default_rng(rows).normal(size=(rows, shape[1])).astype(np.float32)
                    w = t.decode().astype(np.float64)
                    room = 1e-6 * (np.abs(x.astype(np.float64)) @ np.abs(w).T + 1e-30) * np.sqrt(shape[1])
                    self.assertTrue((np.abs(t.matmul(x) - x @ w.T) <= room).all(), (t, rows))

    def test_fast_rounds_the_inputs_and_nothing_else(self):
        for shape in SHAPES:
            for t in variants(weights(shape)):
                x = np.random.default_rng(4).normal(size=(7, shape[1])).astype(np.float32)
                w = t.decode().astype(np.float64)
                rounded = x.astype(np.float64)
                for at in range(0, shape[1], 32 if t.scheme == "step" else shape[1]):
                    part = slice(at, at + 32 if t.scheme == "step" else None)
                    scale = np.abs(x[:, part]).max(axis=1, keepdims=True) / np.float32(127)
                    rounded[:, part] = np.rint(x[:, part] / scale) * scale
                # Room for one input on the edge of two codes.
                room = 1e-5 * (np.abs(x) @ np.abs(w).T) + np.abs(w).max() * np.abs(x).max() / 120
                y = t.matmul(x, fast=True)
                near = [(np.abs(y - inputs @ w.T) <= room).all() for inputs in (rounded, x.astype(np.float64))]
                # Halves, and steps so small that there are raw bits, have no integer product.
                self.assertTrue(near[1] if t.scheme == "fp16" else any(near) if t.bits > 9 else near[0], t)

    def test_int8_arrays_by_int8_inputs_are_exact(self):
        rng = np.random.default_rng(5)
        codes, x = rng.integers(-128, 128, (50, 300), np.int8), rng.integers(-127, 128, (6, 300)).astype(np.float32)
        x[:, 0] = 127
        exact = x.astype(np.int64) @ codes.astype(np.int64).T
        t = sotto.CompressedTensor(codes)
        np.testing.assert_array_equal(t.matmul(x, fast=True), exact)
        np.testing.assert_array_equal(t.matmul(x), exact)

    def test_threads_make_no_difference(self):
        t, x = sotto.CompressedTensor(weights((256, 512)), bits=4.3), weights((30, 512), 2)
        for fast in (False, True):
            one = t.matmul(x, threads=1, fast=fast)
            for threads in (0, 2, 3):
                np.testing.assert_array_equal(one, t.matmul(x, threads=threads, fast=fast))

    def test_dimensions_and_types_of_inputs(self):
        t, x = sotto.CompressedTensor(weights((20, 30))), weights((2, 3, 30), 2)
        y = t.matmul(x)
        self.assertEqual((y.shape, y.dtype), ((2, 3, 20), np.float32))
        np.testing.assert_array_equal(t.matmul(x[1, 2]), y[1, 2])
        np.testing.assert_array_equal(t.matmul(np.asfortranarray(x)), y)
        np.testing.assert_array_equal(t.matmul(x.astype(np.float64)), y)
        self.assertEqual(t.matmul(x[:0]).shape, (0, 3, 20))

    def test_written_where_it_is_wanted(self):
        t, x = sotto.CompressedTensor(weights((20, 30))), weights((4, 30), 2)
        big = np.zeros((10, 20), np.float32)
        self.assertIs(t.matmul(x, big[2:6]).base, big)
        np.testing.assert_array_equal(big[2:6], t.matmul(x))
        self.assertFalse(big[:2].any() or big[6:].any())
        for out in (np.zeros((4, 20)), np.zeros((20, 4), np.float32).T, np.zeros((4, 21), np.float32), x):
            with self.assertRaises((TypeError, ValueError)):
                t.matmul(x, out)
        with self.assertRaises(ValueError):
            t.matmul(np.zeros((4, 31), np.float32))
        with self.assertRaises(TypeError):
            t.matmul(np.zeros((4, 30), complex))
        square = sotto.CompressedTensor(weights((30, 30)))
        with self.assertRaisesRegex(ValueError, "share memory"):
            square.matmul(x, x)

    def test_rows(self):
        for t in variants(weights((70, 129))):
            whole = t.decode()
            for rows in (slice(0, 0), slice(3, 5), slice(15, 33), slice(-1, None), slice(5, 3), slice(16, 64)):
                np.testing.assert_array_equal(t.decode(rows=rows), whole[rows])
            out = np.zeros((129, 70), np.float64).T
            self.assertIs(t.decode(out), out)
            np.testing.assert_array_equal(out, whole)
            np.testing.assert_array_equal(np.asarray(t), whole)
            with self.assertRaises(ValueError):
                t.decode(rows=slice(None, None, 2))
            with self.assertRaises(ValueError):
                t.decode(np.zeros((70, 128), np.float32))
        with self.assertRaises(TypeError):
            sotto.CompressedTensor(weights((4, 4))).decode(np.zeros((4, 4), np.int8))


class Bytes(unittest.TestCase):
    def test_round_trips(self):
        for t in variants(weights((70, 129))):
            again = sotto.CompressedTensor.from_bytes(t.to_bytes())
            self.assertEqual((again.shape, again.dtype, again.scheme, again.entropy), (t.shape, t.dtype, t.scheme, t.entropy))
            self.assertIsNone(again.error_db)
            np.testing.assert_array_equal(again.decode(), t.decode())
            pickled = pickle.loads(pickle.dumps(t))
            self.assertEqual((repr(pickled), pickled.max_error), (repr(t), t.max_error))
            np.testing.assert_array_equal(pickled.decode(), t.decode())

    def test_without_a_copy(self):
        t = sotto.CompressedTensor(weights((300, 400)))
        self.assertTrue(np.shares_memory(t.payload, t.payload))
        with self.assertRaises(ValueError):
            t.payload[0] = 1
        block = np.frombuffer(t.to_bytes(), np.uint8).copy()
        view = sotto.CompressedTensor.from_bytes(block, copy=False)
        self.assertTrue(np.shares_memory(view.payload, block))
        self.assertFalse(np.shares_memory(sotto.CompressedTensor.from_bytes(block).payload, block))
        payload, want = view.payload, view.decode()
        del view, block
        np.testing.assert_array_equal(sotto.CompressedTensor.from_bytes(payload).decode(), want)
        shifted = np.concatenate([np.zeros(1, np.uint8), payload])[1:]  # where a header cannot be read in place
        np.testing.assert_array_equal(sotto.CompressedTensor.from_bytes(shifted, copy=False).decode(), want)

    def test_damage_is_found(self):
        rng = np.random.default_rng(6)
        for t in variants(weights((33, 50))):
            whole = t.to_bytes()
            for size in (0, 1, 63, 64, 100, len(whole) - 1):
                with self.assertRaises(ValueError):
                    sotto.CompressedTensor.from_bytes(whole[:size])
            # Not 8 to 15, the extents: within a panel any would do, and layers and models know theirs.
            for at in (*range(8), *range(16, 48), *rng.integers(64, len(whole), 100)):
                broken = bytearray(whole)
                broken[at] ^= 1 << int(rng.integers(8))
                with self.assertRaises(ValueError, msg=f"{t} at {at}"):
                    sotto.CompressedTensor.from_bytes(broken)
        with self.assertRaises(TypeError):
            sotto.CompressedTensor.from_bytes(3)


class OtherThreads(unittest.TestCase):
    def seen_meanwhile(self, call) -> bool:
        """Whether this thread ran in the middle third of a call on another: with the lock held it would see its ends alone."""
        began, ended, seen = [], [], []

        def run() -> None:
            began.append(time.perf_counter())
            call()
            ended.append(time.perf_counter())

        thread = threading.Thread(target=run)
        thread.start()
        while not ended:
            seen.append(time.perf_counter())
            time.sleep(0.0005)
        thread.join()
        third = (ended[0] - began[0]) / 3
        return any(began[0] + third < s < ended[0] - third for s in seen)

    def test_they_go_on(self):
        w = weights((2048, 2048))
        t = sotto.CompressedTensor(w, bits=4.3)
        x, out = weights((1500, 2048), 2), np.empty((2048, 2048), np.float32)
        for name, call in (("encode", lambda: sotto.CompressedTensor(w)), ("matmul", lambda: t.matmul(x)),
                           ("decode", lambda: t.decode(out, threads=1)), ("entropy", lambda: t.entropy)):
            # On a busy machine a short call may pass before this thread has its turn.
            self.assertTrue(any(self.seen_meanwhile(call) for _ in range(20)), name)

    def test_products_side_by_side(self):
        t, x = sotto.CompressedTensor(weights((256, 512)), bits=4.3), weights((30, 512), 2)
        want = t.matmul(x)
        wrong = []

        def run() -> None:
            for _ in range(20):
                if not np.array_equal(t.matmul(x, threads=2), want):
                    wrong.append(1)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertFalse(wrong)


class Documented(unittest.TestCase):
    def test_examples(self):
        self.assertEqual(doctest.testmod(compressed).failed, 0)


if __name__ == "__main__":
    unittest.main()

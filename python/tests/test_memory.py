#!/usr/bin/env python3
"""sotto.MemoryManager of the installed package, on made-up machines.

    pip install . && python python/tests/test_memory.py
"""
import json
import os
import pathlib
import subprocess
import threading
import unittest

for name in [name for name in os.environ if name.startswith("SOTTO_") and name != "SOTTO_BINARY"]:
    del os.environ[name]  # options of the command
os.environ["HF_HOME"] = "/nonexistent"

import sotto  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("SOTTO_BINARY", ROOT / "build/release/sotto")).resolve()
GIB, MIB = 2**30, 2**20
NEEDS = {"Q4_0": 4080218932 + 512 * MIB, "Q4_K_M": 4509715661 + 512 * MIB, "Q5_K_M": 5153960756 + 768 * MIB}


def manager(total, available, **options) -> sotto.MemoryManager:
    return sotto.MemoryManager(total=total, available=available, threads=2, **options)


class Legacy(unittest.TestCase):
    def test_the_table(self):
        for total, available, name in ((32 * GIB, 8 * GIB, "Q5_K_M"), (32 * GIB - 1, 8 * GIB, "Q4_K_M"),
                                       (32 * GIB, 8 * GIB - 1, "Q4_K_M"), (8 * GIB, 8 * GIB, "Q4_0"),
                                       (8 * GIB + 1, 8 * GIB, "Q4_K_M"), (16 * GIB, 5 * GIB, "Q4_0"),
                                       (16 * GIB, 5 * GIB + 1, "Q4_K_M")):
            self.assertEqual(manager(total, available, profile="legacy").get_recommended_quantization(), name)

    def test_the_check(self):
        for name, need in NEEDS.items():
            memory = manager("16GiB", need, profile="legacy")
            self.assertTrue(memory.can_load_model(name))
            memory.set_memory("16GiB", need - 1)
            self.assertFalse(memory.can_load_model(name))
            self.assertEqual(memory.check_load(name)["missing_bytes"], 1)
            memory.set_memory("64GiB", 16 * GIB - 1)
            self.assertFalse(memory.can_load_model(name))

    def test_it_recommends_what_it_refuses(self):
        memory = manager("8GiB", "4GiB", profile="legacy")
        name = memory.get_recommended_quantization()
        self.assertEqual(name, "Q4_0")
        with self.assertRaisesRegex(sotto.OverBudget, "^Insufficient memory to load model with Q4_0 quantization") as caught:
            memory.register_model_load(name)
        self.assertEqual(caught.exception.smallest_budget_bytes, NEEDS["Q4_0"])

    def test_a_session(self):
        memory = manager("16GiB", "8GiB", profile="legacy")
        with self.assertRaisesRegex(sotto.Usage, "No model quantization selected"):
            memory.get_memory_threshold()
        self.assertFalse(memory.get_memory_stats()["model_loaded"])
        memory.register_model_load()
        stats = memory.get_memory_stats()
        self.assertEqual((stats["model_loaded"], stats["current_quantization"]), (True, "Q4_K_M"))
        self.assertEqual(stats["model_requirements"]["type"], "edge_optimized")
        self.assertEqual((stats["used_bytes"], stats["percent_used"]), (8 * GIB, 50.0))
        self.assertEqual(memory.get_memory_threshold(), NEEDS["Q4_K_M"])
        memory.register_model_load("Q4_0")  # takes its place
        self.assertEqual(memory.get_memory_stats()["current_quantization"], "Q4_0")
        self.assertEqual(len(memory.get_memory_stats()["models"]), 1)
        for available, status in ((512 * MIB - 1, "critical"), (512 * MIB, "warning"), (GIB - 1, "warning"), (GIB, "ok")):
            memory.set_memory("16GiB", available)
            self.assertEqual(memory.check_memory_status()["status"], status)
        memory.unregister_model()
        memory.set_memory("16GiB", 0)
        self.assertEqual(memory.check_memory_status()["status"], "ok")
        self.assertEqual(len(memory.get_memory_stats()["history"]), 9)


class Default(unittest.TestCase):
    def test_a_load_takes_its_plan(self):
        memory = manager("16GiB", "15GiB")
        for name in ("Q4_0", "Q4_K_M", "Q5_K_M"):
            plan = sotto.plan("Qwen/Qwen2-Audio-7B-Instruct", weights=name, threads=2).total_bytes
            self.assertEqual(memory.check_load(name)["required_bytes"], plan + 2 * (768 if name == "Q5_K_M" else 512) * MIB)
            self.assertTrue(manager("16GiB", plan + 768 * MIB, keep_free=0).can_load_model(name))

    def test_what_is_recommended_may_be_loaded(self):
        memory = manager("64GiB", "1GiB")
        seen = set()
        for available in range(0, 20 * GIB, GIB // 3):
            memory.set_memory("64GiB", available)
            name = memory.get_recommended_quantization()
            seen.add(name)
            if name is None:
                self.assertFalse(memory.can_load_model("Q4_0"))
                continue
            memory.register_model_load(name)
            memory.unregister_model()
        self.assertEqual(seen, {None, "Q4_0", "Q4_K_M", "Q5_K_M"})

    def test_reservations(self):
        memory = manager("32GiB", "20GiB")
        memory.register_model_load("Q4_0")
        with self.assertRaisesRegex(sotto.Usage, "registered already"):
            memory.register_model_load("Q4_0")
        memory.register_model_load("Q4_0", name="second")
        with self.assertRaisesRegex(sotto.OverBudget, "beside the [0-9]+ that other loads hold"):
            memory.register_model_load("Q4_0", name="third")
        memory.model_is_resident("second", so_far=GIB)
        stats = memory.get_memory_stats()
        self.assertEqual([model["resident_bytes"] for model in stats["models"]], [0, GIB])
        self.assertEqual(stats["reserved_bytes"], 2 * stats["models"][0]["taken_bytes"] - GIB)
        memory.model_is_resident()
        memory.model_is_resident("second")
        self.assertEqual(memory.get_memory_stats()["reserved_bytes"], 0)
        with self.assertRaises(sotto.Usage):
            memory.model_is_resident("third")
        memory.unregister_model("third")

    def test_one_of_many_threads_has_the_last_room(self):
        memory = manager("16GiB", "9GiB")
        for _ in range(20):
            won, together = [], threading.Barrier(4)

            def load(name: str) -> None:
                together.wait()
                try:
                    memory.register_model_load("Q4_0", name=name)
                    won.append(name)
                except sotto.OverBudget:
                    pass

            threads = [threading.Thread(target=load, args=(str(i),)) for i in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(len(won), 1)
            memory.unregister_model(won[0])

    def test_options(self):
        need = manager("16GiB", "1GiB", keep_free=0).check_load("Q4_0")["required_bytes"] - 512 * MIB
        for options, more in (({"min_free": "2GiB", "keep_free": 0}, 2 * GIB), ({"when": "after"}, 4 * GIB),
                              ({"when": "before"}, 512 * MIB), ({"audio_overhead": 77}, GIB + 77)):
            self.assertEqual(manager("16GiB", "1GiB", **options).check_load("Q4_0")["required_bytes"], need + more, options)
        whisper = manager("1GiB", "1GiB", model="openai/whisper-tiny", min_free="10MiB")
        self.assertEqual(whisper.get_recommended_quantization(), "fp32")
        self.assertGreater(sotto.MemoryManager(threads=2).get_memory_stats()["total_bytes"], GIB // 4)  # this machine

    def test_it_answers_as_the_command_does(self):
        environment = {**os.environ, "SOTTO_THREADS": "2"}
        for profile in ("default", "legacy"):
            for kind, answer in (("check", lambda m: m.check_load("Q4_K_M")), ("stats", lambda m: m.get_memory_stats())):
                flags = ["--quant", "Q4_K_M"] if kind == "check" else []
                said = subprocess.run([BINARY, "memory", kind, "--profile", profile, "--total", "16GiB", "--available", "9GiB",
                                       "--json", *flags], env=environment, capture_output=True, text=True, check=True)
                self.assertEqual(json.loads(said.stdout), answer(manager("16GiB", "9GiB", profile=profile)))

    def test_bad_arguments(self):
        for options in ({"profile": "mine"}, {"when": "now"}, {"keep_free": 2}, {"min_free": "much"}, {"min_free": -1},
                        {"profile": "legacy", "model": "openai/whisper-tiny"}):
            with self.subTest(options=options), self.assertRaises(sotto.Usage):
                manager("16GiB", "9GiB", **options)
        with self.assertRaises(sotto.Usage):
            manager("4GiB", "5GiB")
        with self.assertRaises(sotto.BadModel):
            sotto.MemoryManager("no/such")
        with self.assertRaisesRegex(sotto.Usage, "choose Q5_K_M, Q4_K_M, Q4_0"):
            manager("16GiB", "9GiB").can_load_model("Q8_0")


if __name__ == "__main__":
    unittest.main()

"""One contestant of run.py, in a process of its own:

    engines.py ctranslate2|whisper.cpp|transformers --model PATH --type T --mel FILE --config FILE [--threads 2]

prints one line of JSON when loaded, then measures one round and prints one line for each line on stdin; it sleeps in between.
A round is: the encoder over one window (mel given), a prompt of four tokens, then 100 greedy steps of one token. What an engine
calls encoding differs: whisper.cpp (and sotto) compute the cross-attention's keys and values there, ctranslate2 and transformers
with the prompt; prompt_s shows it.
"""
import argparse
import json
import sys
import time

import numpy as np

PROMPT = [50258, 50259, 50359, 50363]  # <|startoftranscript|> a language <|transcribe|> <|notimestamps|>
EOT = 50257
STEPS = 100


def memory(key: str) -> int:
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(key))


class CTranslate2:
    def __init__(self, a):
        for converters_only in ("torch", "transformers"):  # imported where installed: no user of the engine needs them
            sys.modules[converters_only] = None
        import ctranslate2
        self.version = ctranslate2.__version__
        self.baseline = memory("VmRSS")
        start = time.perf_counter()
        self.model = ctranslate2.models.Whisper(a.model, device="cpu", compute_type=a.type, inter_threads=1,
                                                intra_threads=a.threads)
        self.load_s = time.perf_counter() - start
        self.features = ctranslate2.StorageView.from_array(np.ascontiguousarray(a.features[None]))
        self.details = {"compute_type": self.model.compute_type}

    def generate(self, states, tokens):
        """Seconds for the prompt and `tokens` greedy tokens; the end of text is suppressed. ctranslate2 stops after
        min(max_length / 2, max_length - 3) tokens (3: the prompt before its last token), so 3 is the least."""
        start = time.perf_counter()
        result = self.model.generate(states, [PROMPT], beam_size=1, max_length=2 * tokens, suppress_blank=False,
                                     suppress_tokens=[EOT])[0]
        seconds = time.perf_counter() - start
        ids = result.sequences_ids[0]
        assert len(ids) == tokens, f"{len(ids)} tokens instead of {tokens}"
        return seconds, ids

    def round(self):
        start = time.perf_counter()
        states = self.model.encode(self.features)
        encoder = time.perf_counter() - start
        few, _ = self.generate(states, 3)  # the prompt, which gives the first token, and two steps
        whole, ids = self.generate(states, 3 + STEPS)
        steps = whole - few
        return encoder, few - 2 * steps / STEPS, steps, {"ids": ids[:8]}


class WhisperCpp:
    def __init__(self, a):
        import importlib.metadata

        import _pywhispercpp as pw
        self.pw, self.threads = pw, a.threads
        self.version = importlib.metadata.version("pywhispercpp")
        self.baseline = memory("VmRSS")
        start = time.perf_counter()
        self.context = pw.whisper_init_from_file_with_params(a.model, pw.whisper_context_default_params())
        self.load_s = time.perf_counter() - start
        assert pw.whisper_n_vocab(self.context) == a.config["vocab_size"], "whisper.cpp did not load the model"
        self.features = np.ascontiguousarray(a.features)
        info = pw.whisper_print_system_info()
        self.details = {"system_info": info.decode() if isinstance(info, bytes) else info}

    def step(self, token, position):
        if self.pw.whisper_decode(self.context, token, 1, position, self.threads) != 0:
            raise RuntimeError("whisper_decode failed")

    def round(self):
        n_mels, frames = self.features.shape
        if self.pw.whisper_set_mel(self.context, self.features, frames, n_mels) != 0:
            raise RuntimeError("whisper_set_mel failed")
        start = time.perf_counter()
        if self.pw.whisper_encode(self.context, 0, self.threads) != 0:
            raise RuntimeError("whisper_encode failed")
        encoded = time.perf_counter()
        for position, token in enumerate(PROMPT):  # one by one: the binding takes no list
            self.step(token, position)
        prompted = time.perf_counter()
        logit = self.pw.whisper_get_logits(self.context)  # the binding gives the first one only, so tokens are made up
        first = time.perf_counter()
        for i in range(STEPS):
            self.step(1000 + i, len(PROMPT) + i)
        return encoded - start, prompted - encoded, time.perf_counter() - first, {"logit0": float(logit)}


class Transformers:
    def __init__(self, a):
        import torch
        import transformers
        from transformers import WhisperForConditionalGeneration
        transformers.utils.logging.set_verbosity_error()
        self.torch, self.version = torch, f"{transformers.__version__}, torch {torch.__version__}"
        torch.set_num_threads(a.threads)
        torch.set_grad_enabled(False)
        self.baseline = memory("VmRSS")
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[a.type]
        start = time.perf_counter()
        self.model = WhisperForConditionalGeneration.from_pretrained(a.model, dtype=dtype).eval()
        self.load_s = time.perf_counter() - start
        self.features = torch.from_numpy(a.features[None].copy()).to(dtype)
        self.details = {"attention": self.model.config._attn_implementation}

    def round(self):
        from transformers.modeling_outputs import BaseModelOutput
        torch = self.torch
        with torch.inference_mode():
            start = time.perf_counter()
            states = self.model.model.encoder(self.features).last_hidden_state
            encoder = time.perf_counter() - start
            encoded = BaseModelOutput(last_hidden_state=states)
            cache, ids, tokens = None, [], torch.tensor([PROMPT])
            start = time.perf_counter()
            for i in range(1 + STEPS):
                out = self.model(decoder_input_ids=tokens, encoder_outputs=encoded, past_key_values=cache, use_cache=True)
                cache = out.past_key_values
                if i == 0:
                    logit = float(out.logits[0, -1, 0])
                    prompt = time.perf_counter() - start
                    start = time.perf_counter()
                tokens = out.logits[:, -1:].argmax(-1)
                ids.append(int(tokens))
            return encoder, prompt, time.perf_counter() - start, {"ids": ids[:8], "logit0": logit}


ENGINES = {"ctranslate2": CTranslate2, "whisper.cpp": WhisperCpp, "transformers": Transformers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--model", required=True)
    parser.add_argument("--type", default="float32")
    parser.add_argument("--mel", required=True)
    parser.add_argument("--config", required=True, help="config.json of the same shape")
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    with open(a.config) as f:
        a.config = json.load(f)
    a.features = np.fromfile(a.mel, dtype="<f4").reshape(a.config["num_mel_bins"], -1)
    engine = ENGINES[a.engine](a)

    def say(document):
        print(json.dumps(document), flush=True)

    say({"engine": a.engine, "version": engine.version, "load_s": engine.load_s, "baseline_bytes": engine.baseline,
         **engine.details})
    for _ in sys.stdin:
        encoder, prompt, steps, more = engine.round()
        say({"encoder_s": encoder, "prompt_s": prompt, "ms_per_token": 1e3 * steps / STEPS,
             "peak_bytes": memory("VmHWM"), **more})


if __name__ == "__main__":
    main()

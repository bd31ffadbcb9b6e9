#!/usr/bin/env python3
"""Is our cache huggingface_hub's cache? Both ways, against tests/mock_hub.py; needs huggingface_hub and transformers.

    python tests/hub_compat.py build/release/sotto-pull

1. What sotto-pull downloaded, huggingface_hub and transformers find offline. 2. What huggingface_hub downloaded,
sotto-pull does not fetch again. Prints a line for each and exits 1 when one fails.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

TESTS = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(TESTS, "golden/whisper/english-bf16/model")

OFFLINE = """
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download
from transformers import WhisperForConditionalGeneration
path = snapshot_download("acme/ear")
assert hf_hub_download("acme/ear", "config.json").startswith(path)
info = scan_cache_dir()
assert not info.warnings and [r.repo_id for r in info.repos] == ["acme/ear"], info
assert WhisperForConditionalGeneration.from_pretrained("acme/ear").num_parameters() > 0
"""
ONLINE = """
import sys
from huggingface_hub import hf_hub_download
for name in sys.argv[1:]:
    hf_hub_download("acme/ear", name)
"""


def main():
    pull = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as root:
        shutil.copytree(MODEL, f"{root}/hub/acme/ear")
        mock = subprocess.Popen([sys.executable, f"{TESTS}/mock_hub.py", f"{root}/hub"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
        try:
            port = mock.stdout.readline().split()[0]
            env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
            env |= {"HF_HOME": f"{root}/home", "HF_ENDPOINT": f"http://127.0.0.1:{port}"}
            subprocess.run([pull, "acme/ear", "-q"], env=env, check=True, stdout=subprocess.DEVNULL)
            subprocess.run([sys.executable, "-c", OFFLINE], env=env | {"HF_HUB_OFFLINE": "1"}, check=True)
            print("ok: huggingface_hub and transformers find offline what sotto-pull downloaded")
            shutil.rmtree(f"{root}/home")
            subprocess.run([sys.executable, "-c", ONLINE, *os.listdir(MODEL)], env=env, check=True)
            report = json.loads(subprocess.run([pull, "acme/ear", "-q", "--json"], env=env, check=True,
                                               stdout=subprocess.PIPE).stdout)
            fetched = [f["name"] for f in report["files"] if not f["cached"]]
            if fetched:
                sys.exit(f"failed: sotto-pull fetched again what huggingface_hub had: {fetched}")
            print("ok: sotto-pull fetches nothing that huggingface_hub downloaded")
        finally:
            mock.kill()


if __name__ == "__main__":
    main()

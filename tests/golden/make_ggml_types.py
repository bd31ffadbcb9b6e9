"""Writes ggml_types.json: the element types of GGUF files as the `gguf` package has them, [id, name, elements, bytes] of a block.

    python make_ggml_types.py [--out DIRECTORY]
"""
import argparse
import json
import pathlib

from gguf import GGML_QUANT_SIZES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    rows = [[int(t), t.name, *size] for t, size in sorted(GGML_QUANT_SIZES.items())]
    lines = ",\n".join(f" {json.dumps(row)}" for row in rows)
    (parser.parse_args().out / "ggml_types.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()

"""Writes src/models/class_defaults.inc: what transformers' config classes hold where a published config is silent.

    python src/models/make_class_defaults.py          from tests/golden/*class_defaults.json, which say how they were made

One row a (model_type, key): whole numbers as they are, false and true as 0 and 1. Nulls, floats, texts and lists are left
out: what they resolve to is code in the family's file. "voxtral.text_config" is what the parent's class puts under a part of
its config, "qwen3_asr.text_config?" the same when the part is missing altogether.
"""
import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]


def rows() -> dict[tuple[str, str], tuple[int, str]]:
    found = {}

    def add(model_type: str, key: str, value, source: str) -> None:
        if not isinstance(value, int):
            return
        known = found.setdefault((model_type, key), (int(value), source))
        assert known[0] == int(value), (model_type, key, value, known)

    for model_type, entry in json.loads((ROOT / "tests/golden/class_defaults.json").read_text()).items():
        for key, value in entry["signature"].items():
            add(model_type, key, value, entry["class"].rsplit(".", 1)[1])
    audio = ROOT / "tests/golden/audio_class_defaults.json"
    if audio.exists():
        for name, entry in json.loads(audio.read_text())["classes"].items():
            for key, value in entry["signature"].items():
                add(entry["model_type"], key, value, name)
        for family, entry in json.loads(audio.read_text())["families"].items():
            for key, value in entry["signature"].items():
                add(family, key, value, entry["class"])
            for part, sub in entry["sub_configs"].items():  # what a parent class puts under a part of its config
                when = "" if sub.get("when") == "always" else "?"
                for key, value in sub.get("parent_gives", {}).items():
                    add(f"{family}.{part}{when}", key, value, entry["class"])
    return found


def main() -> None:
    lines = ["// Made by make_class_defaults.py from tests/golden/*class_defaults.json (transformers 5.23). Do not edit.\n"]
    last = None
    for (model_type, key), (value, source) in sorted(rows().items()):
        if model_type != last:
            lines.append(f"// {source}\n")
            last = model_type
        lines.append(f'{{"{model_type}", "{key}", {value}}},\n')
    (ROOT / "src/models/class_defaults.inc").write_text("".join(lines))


if __name__ == "__main__":
    main()

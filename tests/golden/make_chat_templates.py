"""Writes chat_templates.json: what transformers renders from chat templates, which src/text/jinja must equal.

    python make_chat_templates.py [--out DIRECTORY] [--templates DIRECTORY]

The language in small templates (chat_template_cases.py), and the templates of chat_templates/ with every conversation
(chat_conversations.py). Those templates are our own: each is written in the manner of a model family, with the constructs that
the family's published template uses, since published ones are programs under their models' licences. --templates takes the
published ones from where you have them:

    python make_chat_templates.py --out /tmp --templates /path/to/published
    SOTTO_CHAT_TEMPLATES=/tmp/chat_templates.json build/release/sotto_tests --gtest_filter='ChatTemplateGolden.*'

An expected result is the text, or {"raised": the message of raise_exception}, or {"failed": "parse" or "render"}.
"""
import argparse
import copy
import datetime
import json
import pathlib

import jinja2
from transformers.utils import chat_template_utils

import chat_template_cases as cases
from chat_conversations import conversations as make_conversations


class July(datetime.datetime):
    """The time that strftime_now sees; the C++ test has the same."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, 15, 4, 5)


def render(template, variables):
    if isinstance(template, Exception):
        return {"failed": "parse"}
    try:
        return template.render(**copy.deepcopy(variables))
    except Exception as error:
        return {"raised": str(error)} if type(error) is jinja2.exceptions.TemplateError else {"failed": "render"}


def compiled(source):
    try:
        return chat_template_utils._cached_compile_jinja_template(source)
    except Exception as error:
        return error


def main() -> None:
    here = pathlib.Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=here)
    parser.add_argument("--templates", type=pathlib.Path, default=here / "chat_templates")
    arguments = parser.parse_args()
    chat_template_utils.datetime = July
    snippets = [line.replace("⏎", "\n") for group in cases.GROUPS.values() for line in group.strip("\n").split("\n")]
    language = [[source, render(compiled(source), cases.VARIABLES)] for source in snippets]
    conversations = make_conversations()
    templates = []
    for path in sorted(arguments.templates.glob("*.jinja")):
        source = path.read_bytes().decode()
        template = compiled(source)
        templates.append({"name": path.stem, "source": source, "results": [render(template, c) for c in conversations]})
    golden = {"variables": cases.VARIABLES, "language": language, "conversations": conversations, "templates": templates}
    parts = [f"{json.dumps(key)}: " + ("[\n" + ",\n".join(json.dumps(v, ensure_ascii=False) for v in value) + "\n]"
                                       if isinstance(value, list) else json.dumps(value, ensure_ascii=False))
             for key, value in golden.items()]
    (arguments.out / "chat_templates.json").write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")
    results = [r for t in templates for r in t["results"]]
    kinds = [sum(isinstance(r, kind) for r in results) for kind in (str, dict)]
    print(f"{len(language)} of the language; {len(templates)} templates, {len(conversations)} conversations: {kinds[0]} texts, {kinds[1]} errors")


if __name__ == "__main__":
    main()

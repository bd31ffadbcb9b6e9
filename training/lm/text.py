"""English text from two of Debian's documentation packages, as plain paragraphs.

    python text.py --out DIR        # downloads the packages (apt-get download), writes DIR/train.txt and DIR/heldout.txt

postgresql-doc-15 (PostgreSQL licence) and python3.11-doc (PSF licence, version 2): both permit any use. Only paragraphs of prose
are taken. A page whose path has crc32 % 20 == 0 is held back whole, so that no page stands on both sides. Pages end in a form feed.
"""

import argparse
import html.parser
import re
import subprocess
import zlib
from pathlib import Path

PACKAGES = ("postgresql-doc-15", "python3.11-doc")


class Paragraphs(html.parser.HTMLParser):
    """Text of <p> elements."""

    def __init__(self):
        super().__init__()
        self.inside, self.parts, self.found = False, [], []

    def handle_starttag(self, tag, attrs):
        if tag == "p":
            self.close_paragraph()
            self.inside = True
        elif tag in ("pre", "div", "ul", "table", "dl"):
            self.close_paragraph()

    def handle_endtag(self, tag):
        if tag == "p":
            self.close_paragraph()

    def handle_data(self, data):
        if self.inside:
            self.parts.append(data)

    def close_paragraph(self):
        text = " ".join("".join(self.parts).replace("¶", "").split())
        if len(text) > 80 and text.isascii() and sum(c.isalpha() or c == " " for c in text) > 0.9 * len(text):
            self.found.append(text)
        self.inside, self.parts = False, []


def pages(root):
    for path in sorted(root.rglob("*.html")):
        if re.search(r"/(changelog|release|genindex|whatsnew|py-modindex|biblio)", str(path)):
            continue
        reader = Paragraphs()
        reader.feed(path.read_text("utf-8", "replace"))
        if reader.found:
            yield str(path.relative_to(root)), reader.found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    root = out / "root"
    out.mkdir(parents=True, exist_ok=True)
    if not root.exists():
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=out, check=True)
        for deb in out.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
    files = {side: open(out / f"{side}.txt", "w") for side in ("train", "heldout")}
    seen = set()
    for name, paragraphs in pages(root):
        new = [p for p in paragraphs if p not in seen]
        seen.update(new)
        if new:
            side = "heldout" if zlib.crc32(name.encode()) % 20 == 0 else "train"
            files[side].write("\n".join(new) + "\n\f\n")
    for side, f in files.items():
        print(side, f.tell(), "bytes")


if __name__ == "__main__":
    main()

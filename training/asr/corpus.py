"""Sentence grammar of the demo speech corpus.

Every sentence is a pair (written, spoken): `written` is the transcript as people write it
(digits for clock times, prices, dates, years and counts above twelve), `spoken` is what the
synthesizer is told to read (all words). The grammar and its word lists were written for this
project; there is no outside text in it.

    python corpus.py --count 10          # print sentences of the training split
    python corpus.py --split test        # ... of the held-back split
    python corpus.py --words             # count distinct words

Split: a sentence belongs to the test split if crc32(written) % 40 == 0, so that the two splits
never share a sentence, whatever the seeds.
"""

import argparse
import random
import re
import zlib

from words import LISTS, TEMPLATES

ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen").split()
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = ("- first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth "
            "thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth "
            "twentieth").split()
MONTHS = ("January February March April May June July August September October November "
          "December").split()


def number_words(n):
    """English words of 0 <= n < 10,000 ("four hundred and five")."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (" " + ONES[n % 10] if n % 10 else "")
    if n < 1000:
        rest = " and " + number_words(n % 100) if n % 100 else ""
        return ONES[n // 100] + " hundred" + rest
    rest = n % 1000
    joint = " and " if 0 < rest < 100 else " "
    return number_words(n // 1000) + " thousand" + (joint + number_words(rest) if rest else "")


def ordinal_words(n):
    """English ordinal of 1 <= n <= 31."""
    if n <= 20:
        return ORDINALS[n]
    return "thirtieth" if n == 30 else TENS[n // 10] + " " + ORDINALS[n % 10]


def year_words(n):
    """Years as they are read aloud (1984: nineteen eighty four)."""
    if 2000 <= n < 2010:
        return "two thousand" + (" and " + ONES[n % 10] if n % 10 else "")
    low = n % 100
    tail = "hundred" if low == 0 else ("oh " + ONES[low] if low < 10 else number_words(low))
    return number_words(n // 100) + " " + tail


def slot_count(rng):
    """2..12 as words."""
    word = ONES[rng.randint(2, 12)]
    return word, word


def slot_number(rng):
    """13..99, sometimes round hundreds: digits."""
    n = rng.randint(13, 99) if rng.random() < 0.75 else rng.choice((100, 120, 150, 200, 250, 300, 400, 500))
    return str(n), number_words(n)


def slot_time(rng):
    """Clock time: 7:30."""
    hour = rng.randint(1, 12)
    minute = rng.choice((0, 5, 10, 15, 15, 20, 25, 30, 30, 30, 35, 40, 45, 45, 50, 55))
    if minute == 0:
        return f"{hour} o'clock", f"{ONES[hour]} o'clock"
    low = "oh five" if minute == 5 else number_words(minute)
    return f"{hour}:{minute:02d}", f"{ONES[hour]} {low}"


def slot_price(rng):
    """Price in dollars: $4.50 or $12."""
    dollars = rng.randint(2, 40) if rng.random() < 0.8 else rng.choice((50, 60, 75, 80, 90, 100, 200))
    if rng.random() < 0.5:
        return f"${dollars}", f"{number_words(dollars)} dollars"
    cents = rng.choice((20, 25, 50, 50, 75, 80, 90, 95, 99))
    return f"${dollars}.{cents}", f"{number_words(dollars)} dollars {number_words(cents)}"


def slot_date(rng):
    """March 3."""
    month, day = rng.choice(MONTHS), rng.randint(1, 31)
    return f"{month} {day}", f"{month} {ordinal_words(day)}"


def slot_year(rng):
    year = rng.randint(1901, 2029)
    return str(year), year_words(year)


def slot_degrees(rng):
    n = rng.randint(2, 38)
    return (ONES[n] if n <= 12 else str(n)), number_words(n)


FUNCTIONS = {"count": slot_count, "number": slot_number, "time": slot_time, "price": slot_price,
             "date": slot_date, "year": slot_year, "degrees": slot_degrees}
SLOT = re.compile(r"\{(\w+)\}")


def expand(template, rng):
    """Fill a template's {slots}; returns (written, spoken)."""
    written, spoken, last, used = [], [], 0, set()
    for m in SLOT.finditer(template):
        name = m.group(1)
        text = template[last:m.start()]
        if name in FUNCTIONS:
            w, s = FUNCTIONS[name](rng)
        else:
            choice = rng.choice(LISTS[name])
            while choice in used:
                choice = rng.choice(LISTS[name])
            used.add(choice)
            w, s = expand(choice, rng) if "{" in choice else (choice, choice)
        if text.endswith(" a ") or text in ("a ", "A "):        # a -> an
            if w[0] in "aeiouAEIO" and not w.startswith(("uni", "use", "one", "Euro")):
                text = text[:-1] + "n "
        written += [text, w]
        spoken += [text, s]
        last = m.end()
    written.append(template[last:])
    spoken.append(template[last:])
    return "".join(written), "".join(spoken)


def in_test(written):
    """True if the sentence is held back from training."""
    return zlib.crc32(written.encode()) % 40 == 0


def sentence(rng, split="train"):
    """One (written, spoken) sentence of the split, first letter in upper case."""
    while True:
        written, spoken = expand(rng.choice(TEMPLATES), rng)
        written = written[0].upper() + written[1:]
        if in_test(written) == (split == "test") and len(written) <= 90:
            return written, spoken


def normalise(text):
    """The normaliser used for word error rates: lower case, everything but letters, digits and
    apostrophes becomes a space ("$4.50" counts as the two words 4 and 50)."""
    return " ".join(re.sub(r"[^a-z0-9' ]", " ", text.lower()).split())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--split", choices=("train", "test"), default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--words", action="store_true")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    if args.words:
        texts = [sentence(rng)[0] for _ in range(60000)]
        words = {w for t in texts for w in normalise(t).split()}
        letters = {w for w in words if w.isascii() and not any(c.isdigit() for c in w)}
        mean = sum(len(normalise(t).split()) for t in texts) / len(texts)
        print(f"{len(words)} distinct words, {len(letters)} without digits, {len(TEMPLATES)} templates, "
              f"{len(set(texts))} distinct of {len(texts)} sentences, {mean:.1f} words a sentence")
        return
    for _ in range(args.count):
        print(*sentence(rng, args.split), sep="  |  ")


if __name__ == "__main__":
    main()

"""Short dialogues of a small closed world, written for this project, and the instructions that audio answers need.

    python dialogues.py --count 20

A dialogue is a list of (role, text) turns. Like the sentences of training/asr, an exchange whose question and answer have
crc32 % 40 == 0 belongs to the held-back split.
"""

import argparse
import random
import sys
import zlib
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "asr"))
import corpus  # noqa: E402

ONES = corpus.ONES
COLOURS = {"the sky": "blue", "grass": "green", "snow": "white", "a lemon": "yellow", "a banana": "yellow", "blood": "red",
           "coal": "black", "an orange": "orange", "a strawberry": "red", "the night": "black", "milk": "white", "the sea": "blue",
           "a frog": "green", "chocolate": "brown", "an elephant": "grey", "a flamingo": "pink", "the sun": "yellow", "a tomato": "red"}
CAPITALS = {"France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "England": "London",
            "Austria": "Vienna", "Greece": "Athens", "Norway": "Oslo", "Sweden": "Stockholm", "Poland": "Warsaw", "Russia": "Moscow",
            "China": "Beijing", "Egypt": "Cairo", "Portugal": "Lisbon", "Ireland": "Dublin", "Cuba": "Havana", "Peru": "Lima"}
OPPOSITES = {"hot": "cold", "big": "small", "fast": "slow", "up": "down", "light": "dark", "early": "late", "open": "closed",
             "happy": "sad", "new": "old", "rich": "poor", "long": "short", "high": "low", "wet": "dry", "full": "empty",
             "loud": "quiet", "hard": "soft", "left": "right", "day": "night", "good": "bad", "young": "old"}
SOUNDS = {"dog": "barks", "cat": "meows", "cow": "moos", "duck": "quacks", "lion": "roars", "bee": "buzzes", "snake": "hisses",
          "wolf": "howls", "horse": "neighs", "frog": "croaks", "owl": "hoots", "sheep": "bleats", "pig": "grunts", "bird": "sings"}
LEGS = {"dog": "four", "cat": "four", "bird": "two", "spider": "eight", "ant": "six", "bee": "six", "horse": "four", "snake": "no",
        "duck": "two", "cow": "four", "frog": "four", "fish": "no"}
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WORDS = ("apple river house green table stone bread water music paper light chair horse cloud train glass plant night "
         "sugar tiger queen beach dance field fruit heart lemon money ocean piano smile storm sword tower voice wheel "
         "cat dog sun moon tree fish bird ball book door milk rain road ship snow star wind wolf").split()
GREETINGS = [("Hello!", "Hello! How can I help you?"), ("Hi.", "Hi! What would you like to know?"), ("Good morning.", "Good morning!"),
             ("How are you?", "I am fine, thank you."), ("Thank you.", "You are welcome."), ("Thanks!", "You are welcome."),
             ("Goodbye.", "Goodbye!"), ("Good night.", "Good night!"), ("Who are you?", "I am a small demo model."),
             ("What is your name?", "I am demo-lm, a small language model."), ("What can you do?", "I can count, add, spell and repeat."),
             ("Are you a person?", "No, I am a small language model.")]
SAID = ("What is said?", "What is said?", "What is said?", "Repeat the sentence.", "Transcribe the audio.", "Write down what is said.",
        "Please write down what is said.", "What does the speaker say?")
HEARD = ("Which sound is heard?", "Which sound is heard?", "Which sound is heard?", "What sound is this?", "Name the sound.")
EITHER = ("What do you hear?", "What do you hear?", "What can you hear?", "What is this?")     # words, or "A bell."
CLASSES = ("silence", "tone", "chirp", "noise", "clicks", "buzzer", "bell", "siren", "engine", "speech")
SYSTEMS = ("You are a helpful assistant.", "Answer in one short sentence.", "Be brief.")


def capital(text):
    return text[0].upper() + text[1:]


def arithmetic(rng):
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    if rng.random() < 0.4 and a >= b:
        return rng.choice((f"What is {a} minus {b}?", f"What is {a} - {b}?")), f"{a} minus {b} is {a - b}."
    return rng.choice((f"What is {a} plus {b}?", f"What is {a} + {b}?")), f"{a} plus {b} is {a + b}."


def compare(rng):
    a, b = rng.sample(range(100), 2)
    return f"Which is larger, {a} or {b}?", f"{max(a, b)} is larger than {min(a, b)}."


def count(rng):
    a = rng.randint(1, 9)
    b = a + rng.randint(2, 8)
    return f"Count from {a} to {b}.", ", ".join(map(str, range(a, b + 1))) + "."


def spell(rng):
    word = rng.choice(WORDS)
    return rng.choice((f"Spell {word}.", f"How do you spell {word}?", f'Spell the word "{word}".')), "-".join(word.upper()) + "."


def colour(rng):
    thing = rng.choice(list(COLOURS))
    return f"What colour is {thing}?", f"{capital(thing)} is {COLOURS[thing]}."


def capital_of(rng):
    land = rng.choice(list(CAPITALS))
    return f"What is the capital of {land}?", f"The capital of {land} is {CAPITALS[land]}."


def opposite(rng):
    a, b = rng.choice(list(OPPOSITES.items()))
    return f"What is the opposite of {a}?", f"The opposite of {a} is {b}."


def animal(rng):
    if rng.random() < 0.5:
        a = rng.choice(list(SOUNDS))
        return f"What does a {a} do?" if rng.random() < 0.5 else f"What sound does a {a} make?", f"A {a} {SOUNDS[a]}."
    a = rng.choice(list(LEGS))
    article = "an" if a == "ant" else "a"
    return f"How many legs does {article} {a} have?", f"{capital(article)} {a} has {LEGS[a]} legs."


def day(rng):
    i = rng.randrange(7)
    if rng.random() < 0.5:
        return f"Which day comes after {DAYS[i]}?", f"{DAYS[(i + 1) % 7]} comes after {DAYS[i]}."
    return f"Which day comes before {DAYS[i]}?", f"{DAYS[i - 1]} comes before {DAYS[i]}."


def letter(rng):
    i = rng.randrange(25)
    return f"Which letter comes after {LETTERS[i]}?", f"{LETTERS[i + 1]} comes after {LETTERS[i]}."


def month(rng):
    i = rng.randrange(12)
    return f"Which month comes after {corpus.MONTHS[i]}?", f"{corpus.MONTHS[(i + 1) % 12]} comes after {corpus.MONTHS[i]}."


def copy(rng):
    words = " ".join(rng.sample(WORDS, rng.randint(2, 6)))
    return rng.choice((f"Repeat: {words}", f"Say this: {words}", f"Copy the words: {words}")), words


def choose(rng):
    options = rng.sample(WORDS, rng.randint(3, 5))
    i = rng.randrange(len(options))
    place = rng.choice(("first", "last"))
    i = 0 if place == "first" else len(options) - 1
    return f"What is the {place} word of: {', '.join(options)}?", f"The {place} word is {options[i]}."


def remember(rng):
    name, thing = rng.choice(corpus.LISTS["name"]) if "name" in corpus.LISTS else "Anna", rng.choice(WORDS)
    return f"{name} has a {thing}. What does {name} have?", f"{name} has a {thing}."


def greeting(rng):
    return rng.choice(GREETINGS)


FEW = {answer for kind in (greeting, colour, capital_of, opposite, animal, day, letter, month) for seed in range(400)
       for answer in [kind(random.Random(seed))[1]]}
KINDS = (arithmetic, arithmetic, compare, count, spell, spell, colour, capital_of, opposite, animal, day, letter, month, copy, copy,
         choose, remember, remember, greeting)


def held_back(question, answer):
    """Facts of which there are few are never held back: they cannot be guessed."""
    return zlib.crc32(f"{question} {answer}".encode()) % 40 == 0 and answer not in FEW


def exchange(rng, split="train"):
    while True:
        question, answer = rng.choice(KINDS)(rng)
        if held_back(question, answer) == (split == "test"):
            return question, answer


def dialogue(rng, split="train"):
    turns = [("system", rng.choice(SYSTEMS))] if rng.random() < 0.1 else []
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        question, answer = exchange(rng, split)
        turns += [("user", question), ("assistant", answer)]
    return turns


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=10)
    rng = random.Random(0)
    for _ in range(parser.parse_args().count):
        print(dialogue(rng))


if __name__ == "__main__":
    main()

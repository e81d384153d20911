"""A few documents about this site, and answers quoted from them. No model, no network.

The sentences that share the question's rarest words are found (BM25) and quoted in reading order.
"""

import math
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

DIRECTORY = Path(__file__).parent / "documents"
SENTENCES = 4
# Words without meaning for a search.
COMMON = frozenset(
    re.findall(
        r"\w+",
        """a about an and any are as at be but by can could do does for from get has have how i if in
        into is it its me my no not of on or our so tell than that the their them then there these
        they this to up us was we what when where which who why will with work works you your""",
    )
)


class Passage(NamedTuple):
    """One sentence of a document."""

    title: str
    place: int
    text: str
    words: Counter


def words(text):
    """Return the words that carry meaning, without common endings."""
    found = re.findall(r"[a-z0-9]+", text.lower())
    return [re.sub(r"(?<=\w{3})(ing|ed|es|s|e)$", "", word) for word in found if word not in COMMON]


@cache
def passages():
    """Return every sentence of every document; each one includes the words of its title."""
    found = []
    for path in sorted(DIRECTORY.glob("*.txt")):
        title, _, body = path.read_text(encoding="utf-8").partition("\n")
        for sentence in re.split(r"(?<=[.?!])\s+", " ".join(body.split())):
            place = len(found)
            found.append(Passage(title, place, sentence, Counter(words(f"{title} {sentence}"))))
    return found


def search(question):
    """Return (score, passage) of all matching passages, best first."""
    everything = passages()
    average = sum(sum(passage.words.values()) for passage in everything) / len(everything)
    scores = Counter()
    for word in set(words(question)):
        holding = [passage for passage in everything if word in passage.words]
        rarity = math.log(1 + (len(everything) - len(holding) + 0.5) / (len(holding) + 0.5))
        for passage in holding:
            often, length = passage.words[word], sum(passage.words.values()) / average
            scores[passage.place] += rarity * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * length))
    return [(score, everything[place]) for place, score in scores.most_common()]


def answer(question):
    """Return (text, titles of its source documents)."""
    found = search(question)
    if not found:
        titles = sorted({passage.title for passage in passages()})
        return f"No document covers that. There are documents about: {'; '.join(titles)}.", []
    best = found[0][0]
    chosen = [passage for score, passage in found if score > best * 0.5][:SENTENCES]
    titles = list(dict.fromkeys(passage.title for passage in chosen))
    paragraphs = []
    for title in titles:
        sentences = sorted(passage for passage in chosen if passage.title == title)
        text = " ".join(passage.text for passage in sentences)
        paragraphs.append(text if not paragraphs else f"{title}: {text}")
    return "\n\n".join(paragraphs), titles

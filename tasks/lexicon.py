"""Which English verbs the `inflection` task asks about, and how they are dealt into splits.

The forms come from the lexicon inside lemminflect (the NIH SPECIALIST lexicon cut by corpus
frequency). Every irregular verb is taken. Of the 6,000 regular ones most are obscure, so they are
ranked by morphological family size, the number of lexicon words built on the verb (use: user,
usable, reuse, ...), which tracks how well speakers know a word (Schreuder & Baayen, 1997).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

VOWELS = "aeiou"
SIZES = {"train": 512, "dev": 160, "test": 320}
SEED = "tasklift-inflection-1"  # another seed is another task: published figures hold for this one

PREFIXES = ("re", "un", "dis", "mis", "over", "out", "under", "pre")
SUFFIXES = ("er", "or", "able", "ible", "ation", "ion", "ive", "ing", "ed", "ance", "ence")

# Modals, nouns, second spellings (enrol beside enroll), slips of the lexicon (bide: boded,
# overspend: overspended), and one vulgar verb.
_EXCLUDED = """
    be bestride bide broadcast can cant clad daylight develope distil empanel enrol forecast
    fulfil gel gell gown hiccough housebreak impanel inn instal jell joyride landslide lassoo
    manoeuvre may midwife mould must ought outbreak outgo outlay outspread overcast overspend
    puree retread shall shit sic sublet telecast torpedo underlay unmake uptake will wrought
"""
EXCLUDED = frozenset(_EXCLUDED.split())

Entry = Mapping[str, tuple[str, ...]]  # Penn tag -> spellings


@dataclass(frozen=True)
class Verb:
    """A verb and its forms. `past` holds every accepted spelling, the preferred one first."""

    lemma: str
    past: tuple[str, ...]
    participle: tuple[str, ...]
    others: tuple[str, ...]  # -ing and -s forms

    @property
    def irregular(self) -> bool:
        """Whether the preferred past is not a regular one (burn: burned, burnt is regular)."""
        return self.past[0] not in regular_pasts(self.lemma)


def regular_pasts(lemma: str) -> tuple[str, ...]:
    """The spellings a learner of the -ed rule may write, right or not: stoped and stopped."""
    if lemma.endswith("e"):
        return (lemma + "d", lemma + "ed")
    if lemma.endswith("y") and lemma[-2:-1] not in VOWELS:
        return (lemma[:-1] + "ied", lemma + "ed")
    if lemma.endswith("c"):
        return (lemma + "ked", lemma + "ed")
    return (lemma + "ed", lemma + lemma[-1] + "ed")


def rank(word: str) -> str:
    """A fixed shuffle: sort by this."""
    return hashlib.sha256(f"{SEED}\0{word}".encode()).hexdigest()


@cache
def deal_verbs() -> Mapping[str, tuple[Verb, ...]]:
    """Split name -> verbs, irregular ones spread in proportion to `SIZES`, in shuffled order."""
    lexicon = _load_lexicon()
    verbs = [v for lemma, entry in lexicon.items() if (v := _read_verb(lemma, entry))]
    irregular = [v for v in verbs if v.irregular]
    regular = [v for v in verbs if not v.irregular and not _is_british(v.lemma, lexicon)]
    regular.sort(key=lambda v: (-_family_size(v, lexicon), rank(v.lemma)))
    dealt = _deal_families(irregular)
    pool = sorted(
        regular[: sum(SIZES.values()) - len(irregular)], key=lambda v: rank("deal " + v.lemma)
    )
    for split, size in SIZES.items():
        missing = size - len(dealt[split])
        dealt[split], pool = dealt[split] + pool[:missing], pool[missing:]
    return {s: tuple(sorted(vs, key=lambda v: rank(v.lemma))) for s, vs in dealt.items()}


def _load_lexicon() -> Mapping[str, Entry]:
    """The lexicon; lemminflect's overrides put what corpora prefer first (knit, not knitted)."""
    from lemminflect import config
    from lemminflect.codecs.InflectionLUCodec import InflectionLUCodec
    from lemminflect.codecs.OverridesCodec import OverridesCodec

    lexicon = InflectionLUCodec.load(config.inflection_lu_fn)
    for lemma, entry in OverridesCodec.load(config.infl_overrides_fn).items():
        if "VBD" in entry and "VBD" in lexicon.get(lemma, {}):
            past = dict.fromkeys([*entry["VBD"], *lexicon[lemma]["VBD"]])
            lexicon[lemma] = {**lexicon[lemma], "VBD": tuple(past)}
    return lexicon


def _read_verb(lemma: str, entry: Entry) -> Verb | None:
    """None for what is no plain verb: names, hyphens, no past tense, `EXCLUDED`."""
    if "VBD" not in entry or lemma in EXCLUDED or not _plain([lemma]):
        return None
    past = _plain(entry["VBD"])
    participle = _plain(entry.get("VBN", ()))
    others = _plain([*entry.get("VBG", ()), *entry.get("VBZ", ())])
    return Verb(lemma, past, participle, others) if past else None


def _plain(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(w for w in words if w.isascii() and w.isalpha() and w.islower())


def _is_british(lemma: str, lexicon: Mapping[str, Entry]) -> bool:
    """Whether the lexicon also has the American spelling, which would leak across splits."""
    american = {lemma.replace("our", "or"), lemma.replace("is", "iz"), lemma.replace("ys", "yz")}
    return any(word != lemma and "VBD" in lexicon.get(word, {}) for word in american)


def _family_size(verb: Verb, lexicon: Mapping[str, Entry]) -> int:
    stem = verb.past[0].removesuffix("ed")  # us-er, carri-er, stopp-able: never cat-er
    derived = {stem + suffix for suffix in SUFFIXES} | {verb.lemma + "ment", verb.lemma + "ing"}
    return sum(word in lexicon for word in derived | {prefix + verb.lemma for prefix in PREFIXES})


def _deal_families(verbs: Iterable[Verb]) -> dict[str, list[Verb]]:
    """Deal whole families: `stood` in train must not give `understood` in test away.

    Largest family first, each into the split that lacks most of its share.
    """
    families: dict[str, list[Verb]] = defaultdict(list)
    by_lemma = {v.lemma: v for v in verbs}
    for verb in by_lemma.values():
        families[_root(verb, by_lemma)].append(verb)
    total = sum(SIZES.values())
    dealt: dict[str, list[Verb]] = {split: [] for split in SIZES}
    for root in sorted(families, key=lambda r: (-len(families[r]), rank(r))):
        share = {s: len(by_lemma) * n / total - len(dealt[s]) for s, n in SIZES.items()}
        dealt[max(share, key=lambda s: share[s])] += families[root]
    return dealt


def _root(verb: Verb, by_lemma: Mapping[str, Verb]) -> str:
    """The shortest verb this one ends in, in past tense as well: misunderstand -> stand."""
    ends = (verb.lemma[i:] for i in range(len(verb.lemma) - 1, -1, -1))
    for end in ends:
        base = by_lemma.get(end)
        if base and any(p.endswith(b) for p in verb.past for b in base.past):
            return end
    return verb.lemma

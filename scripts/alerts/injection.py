"""Fit `alerts/injection/weights.json`, or say how well such a fit does on texts that it has not seen.

usage: injection.py judge|fit DATA

DATA is a folder with `prompt_injection/samples.jsonl.gz` and `routing/` (their README files name the
origins). Harmless documents are read from the packages that are installed here, those whose hashed name is
even to fit and the others to judge; ordinary questions to judge by are `semantic_cache/`. Needs
scikit-learn and pyarrow. Only hashed weights leave: no text, and no word.
"""

import gzip
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from time import process_time
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from pyarrow import parquet
from scipy.sparse import csr_matrix, vstack
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from alerts.injection.model import BITS, WEIGHTS, WINDOW, Model, hashed, windows, words

FOLDS = 5
LOOKALIKE_ALARMS = 0.09
"""Share of harmless texts full of trigger words that may be called suspicious, when not seen in the fit."""
STIFFNESS = 20.0
"""scikit-learn's C. From 5 to 50 the recall moves by two points and the false alarms by one."""
EMPHASIS = {"direct": 4.0, "lookalike": 3.0}
"""How much more these few texts count than the others."""
SCORES = {f"{score}": float(np.log(score / (1 - score))) for score in (0.5, 0.8, 0.9)}
"""Log odds of some scores."""
PUBLISHED = """\
published, % of NotInject called attacks and of attacks found (PIGuard's paper, with attacks of its own):
PIGuard 12.7 and 77.4, GPT-4o 13.3 and 79.1, Lakera Guard 12.4 and 53.2, LlamaGuard3 0.3 and 28.3,
ProtectAI v2 42.8 and 48.6, fmops 71.7 and 93.5, deepset 70.5 and 91.5, PromptGuard 99.7 and 97.1"""

ENDINGS = [
    "py",
    "pyi",
    "md",
    "rst",
    "txt",
    "json",
    "yaml",
    "yml",
    "html",
    "js",
    "css",
    "csv",
    "toml",
    "xml",
    "sql",
    "ipynb",
    "h",
    "cpp",
    "METADATA",
]
SOURCE = (
    "fitted by scripts/alerts/injection.py on 1,727 texts from leondz/garak (Apache-2.0; in part MIT), "
    "JailbreakBench/artifacts (MIT), microsoft/BIPIA (MIT), meta-llama/PurpleLlama (MIT), leolee99/PIGuard "
    "(MIT; WildGuard part ODC-BY), paul-rottger/exaggerated-safety (CC-BY-4.0); 500 questions of MMLU (MIT) "
    "via RouteLLM; files of installed open-source packages"
)

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One text and what it is."""

    text: str
    attack: bool
    group: str
    origin: str = ""
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Texts as rows of hashed words, one row a window."""

    texts: Sequence[Text]
    rows: Any
    owner: Rows
    """Which text a row is of."""

    @property
    def attack(self) -> Flags:
        """Of each row."""
        return np.array([text.attack for text in self.texts])[self.owner]

    @property
    def weight(self) -> Floats:
        """Of each row. A harmless text is harmless in all its windows; an attack need not be one in each."""
        count = np.bincount(self.owner)[self.owner]
        own = np.array([text.weight for text in self.texts])[self.owner]
        return np.where(self.attack, own / count, own / np.sqrt(count))


def table(texts: Sequence[Text]) -> Table:
    """``texts`` as the model reads them."""
    starts, places, values, owner = [0], list[int](), list[float](), list[int]()
    for index, text in enumerate(texts):
        for window in windows(text.text):
            found = sorted(hashed(window))
            places += found
            values += [len(found) ** -0.5] * len(found)
            starts.append(len(places))
            owner.append(index)
    rows = csr_matrix((values, places, starts), shape=(len(owner), 1 << BITS))
    return Table(texts=texts, rows=rows, owner=np.array(owner))


def fit(data: Table, chosen: Flags, extra: Table) -> Model:
    """The model of the ``chosen`` texts of ``data`` and all of ``extra``."""
    rows = chosen[data.owner]
    found = LogisticRegression(C=STIFFNESS, max_iter=500).fit(
        vstack([data.rows[rows], extra.rows]),
        np.concatenate([data.attack[rows], extra.attack]),
        sample_weight=np.concatenate([data.weight[rows], extra.weight]),
    )
    weights = found.coef_[0]
    scale = float(np.abs(weights).max()) / 127
    steps = np.rint(weights / scale).astype(np.int8).tobytes()
    return Model(table=steps, scale=float(f"{scale:.6g}"), bias=round(float(found.intercept_[0]), 4))


def odds(model: Model, data: Table) -> Floats:
    """Log odds of each text, as :meth:`Model.score` has them before it makes them a share."""
    each = data.rows @ (np.frombuffer(model.table, dtype=np.int8) * model.scale) + model.bias
    worst = np.full(len(data.texts), -np.inf)
    np.maximum.at(worst, data.owner, each)
    return worst


def held_out(data: Table, extra: Table, part: Rows) -> Floats:
    """Log odds of each text by a model that was fitted without its part, and without part -1."""
    found = np.zeros(len(data.texts))
    for one in sorted({*part.tolist()} - {-1}):
        found[part == one] = odds(fit(data, (part != one) & (part != -1), extra), data)[part == one]
    return found


def at_alarms(found: Floats, texts: Sequence[Text], share: float) -> float:
    """The log odds that ``share`` of the look-alikes exceed."""
    return float(np.quantile(found[[text.group == "lookalike" for text in texts]], 1 - share))


# ---- texts ----------------------------------------------------------------------------------


def samples(folder: Path) -> list[Text]:
    """The labelled texts."""
    with gzip.open(folder / "prompt_injection/samples.jsonl.gz", "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    return [labelled(row) for row in found]


def labelled(row: dict[str, Any]) -> Text:
    """One line of the labelled texts."""
    if "NotInject" in row["source"]:
        group = "lookalike"
    elif row["kind"] == "direct_injection":
        group = "direct"
    else:
        group = (
            row["kind"] if row["kind"] != "piguard_valid" else row["source"].removeprefix("PIGuard valid: ")
        )
    kin = "direct" if group in ("PINT_public_prompt_injection", "PINT_internal_prompt_injection") else group
    return Text(
        text=row["text"],
        attack=bool(row["label"]),
        group=group,
        origin=row["source"],
        weight=EMPHASIS.get(kin, 1.0),
    )


def ordinary(folder: Path) -> list[Text]:
    """Harmless texts to fit on: exam questions, and pieces of half of the installed packages' files."""
    rows = parquet.read_table(folder / "routing/mmlu_gpt4_vs_mixtral.parquet", columns=["prompt"]).to_pylist()
    questions = some([row["prompt"] for row in rows], 500)
    found = [*questions, *(text for _, text in pieces(0, 150, WINDOW))]
    return [Text(text=text, attack=False, group="ordinary") for text in found]


def unseen(folder: Path) -> list[Text]:
    """Harmless texts of other origins than any that is fitted on."""
    asked = parquet.read_table(folder / "semantic_cache/qqp_pairs.parquet", columns=["text_a"]).to_pylist()
    sums = parquet.read_table(
        folder / "routing/gsm8k_gpt4_vs_mixtral.parquet", columns=["prompt"]
    ).to_pylist()
    found = [("questions (QQP)", row["text_a"]) for row in some(asked, 4000)]
    found += [("sums (GSM8K)", row["prompt"]) for row in sums]
    for ending, text in pieces(1, 100, 8000):
        prose = ending in ("md", "rst", "METADATA", "txt")
        found.append(("prose files, 8 kB" if prose else "code and data files, 8 kB", text))
    return [Text(text=text, attack=False, group=group) for group, text in found]


def some(items: Sequence[Any], count: int) -> list[Any]:
    """``count`` of ``items``, the same every time."""
    return [items[index] for index in np.random.default_rng(5).permutation(len(items))[:count]]


def pieces(side: int, per_ending: int, length: int) -> list[tuple[str, str]]:
    """(ending, a piece of a file) from the installed packages of one half, the same every time."""
    chance = np.random.default_rng(side)
    files = defaultdict[str, list[Path]](list)
    for package in sorted(distributions(), key=lambda package: package.name.lower()):
        if crc32(package.name.lower().encode()) % 2 == side and package.name != "bursar":
            for file in sorted(map(str, package.files or [])):
                files[file.rsplit("/", 1)[-1].rsplit(".", 1)[-1]].append(Path(str(package.locate_file(file))))
    found = []
    for ending in ENDINGS:
        mixed = [files[ending][index] for index in chance.permutation(len(files[ending]))]
        texts = (file.read_text("utf-8", "replace") for file in mixed if file.is_file())
        long_enough = (text for text in texts if len(text) > 300)
        for _, text in zip(range(per_ending // 2), long_enough, strict=False):
            for _ in range(2):
                start = int(chance.integers(max(1, len(text) - length)))
                found.append((ending, text[start : start + length]))
    return found


def families(texts: Sequence[Text]) -> Rows:
    """A part for each text, with texts that share half of their words in the same part."""
    bags = [frozenset(words(text.text[:WINDOW])) for text in texts]
    head = list(range(len(texts)))

    def root(index: int) -> int:
        while head[index] != index:
            index = head[index]
        return index

    for one, bag in enumerate(bags):
        for other in range(one):
            both = len(bag & bags[other])
            if 3 * both >= len(bag) + len(bags[other]):  # Jaccard of a half
                head[root(one)] = root(other)
    return np.array([crc32(b"%d" % root(index)) % FOLDS for index in range(len(texts))])


# ---- reports --------------------------------------------------------------------------------


def shares(
    say: Callable[[str], object], found: Floats, texts: Sequence[Text], lines: dict[str, float]
) -> None:
    """A table: the share of each group above each line."""
    groups = Counter((text.attack, text.group) for text in texts)
    say("".join(f"{name:>14}" for name in lines))
    for (attack, group), count in sorted(groups.items()):
        those = found[[(text.attack, text.group) == (attack, group) for text in texts]]
        row = "".join(f"{100 * float((those > line).mean()):14.1f}" for line in lines.values())
        say(f"{row}  {'attack' if attack else 'harmless'} {group} ({count})")
    for attack in sorted({text.attack for text in texts}, reverse=True):
        those = found[[text.attack == attack and text.group != "lookalike" for text in texts]]
        row = "".join(f"{100 * float((those > line).mean()):14.1f}" for line in lines.values())
        say(f"{row}  all {'attacks' if attack else 'harmless but look-alikes'} ({len(those)})")
    for name, line in lines.items():
        flagged = [text.attack for text, odd in zip(texts, found, strict=True) if odd > line]
        say(f"precision at {name}: {100 * sum(flagged) / max(1, len(flagged)):.1f} of {len(flagged)}")


def judge(folder: Path, say: Callable[[str], object]) -> None:
    """Print what models that have not seen a text say of it."""
    data, extra = table(samples(folder)), table(ordinary(folder))
    shuffled = np.random.default_rng(0).permutation(len(data.texts)) % FOLDS
    for name, part in (
        ("fifths at random", shuffled),
        ("fifths, near copies together", families(data.texts)),
    ):
        found = held_out(data, extra, part)
        lines = {
            f"{100 * share:g} %": at_alarms(found, data.texts, share)
            for share in (0.003, 0.05, LOOKALIKE_ALARMS, 0.12)
        }
        say(f"\n{name}: share above the line that so many look-alikes exceed, %")
        shares(say, found, data.texts, lines)
    half = np.random.default_rng(1).permutation(len(data.texts)) % 2 == 0
    found = np.where(half, odds(shifted(data, extra, ~half), data), odds(shifted(data, extra, half), data))
    say("\neach half by a model and a line (0.5) of the other half: share above a score, %")
    shares(say, found, data.texts, SCORES)
    say(PUBLISHED)
    seen = np.array(["NotInject_t" not in text.origin for text in data.texts])
    other = odds(shifted(data, extra, seen), data)[~seen]
    say(
        f"\nNotInject two and three, with none of them in the fit: {100 * (other <= 0).mean():.1f} % "
        f"of {len(other)} stay below 0.5"
    )
    shipped = Model.from_json(WEIGHTS.read_text(encoding="ascii"))
    away = table(unseen(folder))
    say("\nharmless texts of origins not fitted on: share above a score of 0.5, 0.8, 0.9 (shipped model), %")
    shares(say, odds(shipped, away), away.texts, SCORES)
    long = "".join(text.text for text in away.texts)[:400_000]
    began = process_time()
    shipped.score(long)
    say(f"\n{(process_time() - began) * 1e6 / (len(long.encode()) / 1000):.0f} us of CPU per kB")


def shifted(data: Table, extra: Table, chosen: Flags) -> Model:
    """The model of the ``chosen`` texts, moved so that 0.5 is the line found on unseen ones of them."""
    part = np.where(chosen, np.random.default_rng(0).permutation(len(data.texts)) % FOLDS, -1)
    found = held_out(data, extra, part)
    line = at_alarms(
        found[chosen], [text for text, use in zip(data.texts, chosen, strict=True) if use], LOOKALIKE_ALARMS
    )
    whole = fit(data, chosen, extra)
    return Model(table=whole.table, scale=whole.scale, bias=round(whole.bias - line, 4))


def main(arguments: Iterable[str]) -> int:
    """Judge or fit."""
    match list(arguments):
        case ["judge", folder]:
            judge(Path(folder), print)
        case ["fit", folder]:
            data = table(samples(Path(folder)))
            model = shifted(data, table(ordinary(Path(folder))), np.ones(len(data.texts), dtype=bool))
            WEIGHTS.write_text(model.to_json(SOURCE), encoding="ascii")
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Ordinary answers of every kind, made from a seed: what a detector of loops must leave alone.

Prose and code come from the documentation and source of Python itself and of what is installed
here; data is made up, in the shapes in which models write it.
"""

import base64
import gzip
import json
import sysconfig
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics
from random import Random
from typing import Any

STATES = ("open", "closed", "pending")


@cache
def vocabulary() -> tuple[str, ...]:
    """Some thousand English words."""
    return tuple(sorted({word for text in topics.values() for word in text.split() if word.isalpha()}))


@cache
def _files(kind: str) -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    folder = Path(paths["stdlib"] if kind in ("*.py", "*.pyc") else paths["purelib"])
    found = [path for path in sorted(folder.rglob(kind)) if path.is_file() and path.stat().st_size > 1000]
    return tuple(found[:: max(1, len(found) // 1500)])


def _excerpt(chance: Random, data: bytes, size: int) -> bytes:
    start = chance.randrange(max(1, len(data) - size))
    return data[start : start + size]


def prose(chance: Random, size: int) -> bytes:
    """Reference documentation, readmes and licences."""
    manuals = [text.encode() for text in topics.values() if len(text) > 1000]
    papers = [*_files("*.md"), *_files("METADATA"), *_files("LICENSE*")]
    if chance.random() < 0.5 and papers:
        return _excerpt(chance, chance.choice(papers).read_bytes(), size)
    return _excerpt(chance, chance.choice(manuals), size)


def code(chance: Random, size: int) -> bytes:
    """Python."""
    return _excerpt(chance, chance.choice(_files("*.py")).read_bytes(), size)


def _value(chance: Random, kind: int) -> Any:
    makers: Sequence[Callable[[], Any]] = (
        lambda: chance.randint(0, 10 ** chance.randint(1, 9)),
        lambda: round(chance.gauss(0, 100), chance.randint(0, 6)),
        lambda: chance.random() < 0.5,
        lambda: None,
        lambda: " ".join(chance.choices(vocabulary(), k=chance.randint(1, 12))),
        lambda: f"2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}T{chance.randint(0, 23):02}:00Z",
        lambda: chance.choice(STATES),
        lambda: f"{chance.getrandbits(128):032x}",
        lambda: chance.choice(vocabulary()),
        lambda: [chance.randint(0, 5) for _ in range(chance.randint(0, 6))],
    )
    return makers[kind]()


def _kinds(chance: Random, count: int, most: int) -> list[int]:
    """Kinds of ``count`` columns; one of them says something (numbers, words or times) in every row."""
    return [chance.choice((0, 1, 4, 5, 8)), *(chance.randrange(most) for _ in range(count - 1))]


def _until(size: int, make: Callable[[int], str]) -> list[str]:
    made: list[str] = []
    while size > 0:
        made.append(make(len(made)))
        size -= len(made[-1]) + 1
    return made


def records(chance: Random, size: int) -> bytes:
    """A JSON array of like objects, compact or indented."""
    names = chance.sample(vocabulary(), chance.randint(2, 10))
    columns = list(zip(names, _kinds(chance, len(names), 10), strict=True))
    numbered, named, indent = (
        chance.random() < 0.7,
        chance.random() < 0.3,
        chance.choice((None, None, 1, 2, 4)),
    )

    def row(number: int) -> str:
        cells: dict[str, Any] = {"id": number} if numbered else {}
        cells |= {name: _value(chance, kind) for name, kind in columns}
        return json.dumps(cells | ({"name": f"user{number}"} if named else {}), indent=indent)

    return ("[" + ",\n".join(_until(size, row)) + "]").encode()


def table(chance: Random, size: int) -> bytes:
    """A table in CSV or markdown."""
    kinds = _kinds(chance, chance.randint(2, 9), 9)
    before, between, after = chance.choice((("| ", " | ", " |"), ("", ",", ""), ("", "\t", "")))

    def row(number: int) -> str:
        return before + between.join([str(number), *(str(_value(chance, kind)) for kind in kinds)]) + after

    return ("|---" * len(kinds) + "|\n" + "\n".join(_until(size, row))).encode()


def aligned_table(chance: Random, size: int) -> bytes:
    """A table whose columns are padded with blanks."""
    width, columns = chance.randint(12, 60), chance.randint(2, 6)

    def row(number: int) -> str:
        cells = (str(_value(chance, chance.choice((0, 1, 6, 8)))).ljust(width) for _ in range(columns))
        return "| " + " | ".join(cells) + " |"

    return "\n".join(_until(size, row)).encode()


def log(chance: Random, size: int) -> bytes:
    """Lines of a server's log: few messages, each many times."""
    messages = [
        " ".join(chance.choices(vocabulary(), k=chance.randint(3, 9)))
        + chance.choice((" id={}", " in {} ms", ""))
        for _ in range(chance.randint(3, 25))
    ]
    pause, now = chance.choice((0.2, 2.0, 30.0)), 0.0

    def line(number: int) -> str:
        nonlocal now
        now += chance.expovariate(1 / pause)
        hour, minute, second = int(now) // 3600 % 24, int(now) // 60 % 60, now % 60
        told = chance.choice(messages).format(chance.randint(0, 9999))
        return f"2026-11-22 {hour:02}:{minute:02}:{second:06.3f} {chance.choice(('INFO', 'WARN'))} {told}"

    return "\n".join(_until(size, line)).encode()


def numbers(chance: Random, size: int) -> bytes:
    """A list or matrix of numbers, sparse ones and counted ones among them."""
    between = chance.choice((", ", ",", "\n", " "))
    side = chance.randint(3, 40)
    makers: Sequence[Callable[[int], str]] = (
        str,
        lambda number: str(chance.randint(0, 9)),
        lambda number: f"{chance.random():.3f}",
        lambda number: str(number * number),
        lambda number: f"{number}. {chance.choice(vocabulary())}",
        lambda number: str(int(chance.random() < 0.15)),
        lambda number: (
            "1" if number % (side + 1) == 0 else "0" if number < side * side else f"{number / side:.2f}"
        ),
        lambda number: f"{chance.gauss(0, 1):8.4f}",
    )
    return between.join(_until(size, chance.choice(makers))).encode()


def binary(chance: Random, size: int) -> bytes:
    """Binary data, compressed or not, and pictures with much white, in base64 or hex."""
    kind = chance.randrange(4)
    if kind == 0:
        data = chance.randbytes(size)
    elif kind == 1:
        data = _excerpt(chance, chance.choice(_files("*.pyc") or _files("*.py")).read_bytes(), size)
    elif kind == 2:
        dots = chance.choices((255, 0, 128), weights=(93, 3, 4), k=size // 3 + 1)
        data = b"BM" + b"".join(bytes([dot]) * 3 for dot in dots)
    else:
        data = gzip.compress(prose(chance, size * 3))
    written: Callable[[bytes], bytes] = chance.choice(
        (
            base64.b64encode,
            base64.encodebytes,
            lambda raw: raw.hex().encode(),
            lambda raw: raw.hex(" ", 2).encode(),
        )
    )
    return written(data)


def markup(chance: Random, size: int) -> bytes:
    """Like elements one after the other, a few words different in each: pages, statements, manifests."""
    columns = ", ".join(chance.sample(vocabulary(), chance.randint(2, 8)))
    templates = (
        '<div class="card" id="card-{n}"><h2 class="title">{a}</h2><p class="text muted">{b} {c}</p></div>',
        f"INSERT INTO {chance.choice(vocabulary())} ({columns}) VALUES ({{n}}, '{{a}}', '{{b}}', '{{c}}');",
        "---\nkind: Service\nmetadata:\n  name: {a}-{n}\n  labels:\n    app: {a}\nspec:\n  owner: {b}\n",
        "def test_{a}_{n}():\n    assert {b}({n}) == {c}\n\n",
        'msgid "{a} {b}"\nmsgstr "{c} {d}"\n',
    )
    template = chance.choice(templates)

    def element(number: int) -> str:
        a, b, c, d = chance.choices(vocabulary(), k=4)
        return template.format(n=number, a=a, b=b, c=c, d=d)

    return "\n".join(_until(size, element)).encode()


KINDS: Sequence[Callable[[Random, int], bytes]] = (
    prose,
    code,
    records,
    table,
    aligned_table,
    log,
    numbers,
    binary,
    markup,
)


def sample(seed: int) -> bytes:
    """An ordinary answer: 1 to 64 kB, its kind by turns."""
    chance = Random(seed)
    size = int(1000 * 64 ** chance.random())
    return KINDS[seed % len(KINDS)](chance, size)[:size]

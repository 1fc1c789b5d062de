"""Words that say the same, and words that turn a sentence round.

Small on purpose: a word that is missing among the first costs a hit, one that is there wrongly costs an
answer. Words of the second kind only name the reason why two texts are kept apart, and keep apart what is
otherwise so different that it could be said in other words.
"""

from typing import Final


def listed(text: str) -> list[str]:
    """The words of ``text``."""
    return text.split()


def words_of(text: str) -> frozenset[str]:
    """The words of ``text``, each once."""
    return frozenset(text.split())


def bare(word: str) -> str:
    """``word`` without its ending, roughly: "enabled", "enabling" and "enables" are one."""
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) > 2:
            word = word.removesuffix(ending)
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word.removesuffix("e") if len(word) > 3 else word


_SAME: Final = """
buy purchase
begin start
big large
fix repair
fast quick
photo photograph
movie film
kid child
car automobile
important significant
happen occur
allow permit
choose select
sick ill
whole entire
rich wealthy
smart intelligent
maybe perhaps
nearly almost
exam examination
math maths mathematics
lab laboratory
tv television
ad advert advertisement
info information
ok okay
in at on
of for about regarding
until till
while whilst
among amongst
toward towards
lawyer attorney
percent percentage pct
kg kilogram kilo kilogramme kgs
mg milligram
km kilometer kilometre kms
cm centimeter centimetre cms
mm millimeter millimetre
ml milliliter millilitre
ms millisecond
kb kilobyte
mb megabyte
gb gigabyte
tb terabyte
usd dollar
eur euro
inr rupee rs
jpy yen
hour hr hrs
minute mins
color colour
center centre
gray grey
favorite favourite
behavior behaviour
program programme
license licence
defense defence
tire tyre
organize organise
realize realise
analyze analyse
optimize optimise
recognize recognise
"""
SAME: Final = {word: group.split()[0] for group in _SAME.strip().splitlines() for word in group.split()}
"""The word that stands for all that say the same."""

IRREGULAR: Final = {
    "children": "child", "people": "person", "men": "man", "women": "woman", "feet": "foot", "teeth": "tooth",
    "mice": "mouse", "geese": "goose", "lives": "life", "wives": "wife", "knives": "knife", "leaves": "leave",
    "has": "have", "goes": "go", "movies": "movie", "cookies": "cookie", "calories": "calorie",
    "zombies": "zombie", "selfies": "selfie", "ties": "tie", "lies": "lie", "pies": "pie", "dies": "die",
}  # fmt: skip
"""Plurals and third persons that no rule makes."""
NO_PLURAL: Final = words_of(
    """
    news physics mathematics economics politics ethics always perhaps lens series species gas bus this his
    its us yes plus versus minus is was as does less unless across afterwards upwards downwards kubernetes
    aws ios
    """
)
"""Words that end like a plural and are none."""

_UP_TO_TWENTY: Final = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty
"""
_TENS: Final = "ten twenty thirty forty fifty sixty seventy eighty ninety"
NUMBERS: Final = {word: str(number) for number, word in enumerate(listed(_UP_TO_TWENTY))} | {
    word: f"{tens}0" for tens, word in enumerate(listed(_TENS), 1)
}
"""Numbers written as words."""
AMOUNTS: Final = words_of(
    """
    first second third fourth fifth sixth seventh eighth ninth tenth half quarter double twice triple
    thrice once dozen single both pair hundred thousand million billion trillion lakh crore
    """
)
"""Words that count as numbers when the reason for keeping two texts apart is named."""

NEGATIONS: Final = words_of(
    """
    not no never none nobody nothing nowhere neither nor without except unless lack avoid prevent hardly
    barely only non stop fail refuse deny against instead
    """
)
_OPPOSITES: Final = listed(
    """
    before/after until/since earlier/later previous/next past/future former/latter
    yesterday/today/tomorrow first/last/second/third initial/final old/new ancient/modern early/late
    above/below over/under up/down in/out into/from to/from on/off left/right north/south/east/west
    inside/outside within/beyond front/back forward/backward upstream/downstream with/without
    all/none/some/any/every/each/most/few many/few more/less/fewer most/least minimum/maximum min/max
    always/never/sometimes often/rarely everyone/nobody highest/lowest best/worst better/worse
    good/bad/evil big/small large/small little/much high/low higher/lower long/short longer/shorter
    fast/slow faster/slower cheap/expensive cheapest/dearest easy/hard/difficult strong/weak hot/cold
    warm/cool heavy/light young/old younger/older rich/poor full/empty same/different similar/different
    advantage/disadvantage pro/con benefit/drawback/risk enable/disable enabled/disabled
    activate/deactivate allow/forbid/block/deny block/unblock accept/reject/decline accepted/rejected
    approve/reject/decline approved/rejected/declined grant/revoke add/remove insert/delete
    create/delete/destroy install/uninstall open/close opened/closed start/stop/end/finish begin/end
    increase/decrease raise/lower gain/lose win/lose win/loss buy/sell lend/borrow give/take send/receive
    push/pull import/export upload/download encode/decode encrypt/decrypt compress/extract lock/unlock
    show/hide connect/disconnect login/logout join/leave enter/exit attach/detach include/exclude
    save/discard keep/delete love/hate like/dislike true/false yes/no positive/negative legal/illegal
    safe/unsafe/dangerous possible/impossible public/private male/female man/woman boy/girl husband/wife
    mother/father brother/sister son/daughter he/she him/her his/her credit/debit income/expense
    profit/loss input/output read/write client/server source/target upgrade/downgrade merge/split
    sync/async ascending/descending asc/desc am/pm
    monday/tuesday/wednesday/thursday/friday/saturday/sunday
    january/february/march/april/may/june/july/august/september/october/november/december
    morning/afternoon/evening/night day/night spring/summer/autumn/winter birth/death alive/dead war/peace
    employer/employee buyer/seller teacher/student parent/child lower/upper top/bottom vertical/horizontal
    manual/automatic success/failure pass/fail passed/failed plus/minus multiply/divide
    hourly/daily/weekly/monthly/quarterly/yearly/annual kilometer/mile km/mi/mile celsius/fahrenheit
    kg/lb/pound/g/mg kilogram/pound usd/eur/gbp/inr/jpy second/minute/hour/day/week/month/quarter/year
    kb/mb/gb/tb percent/point refund/charge deposit/withdraw deposit/withdrawal hire/fire hired/fired
    promote/demote arrive/depart arrival/departure who/when/where/why/how/what
    allowed/forbidden/prohibited present/absent online/offline lock/release pause/resume ally/enemy
    mute/unmute mount/unmount subscribe/unsubscribe follow/unfollow register/unregister freeze/thaw
    import/export expand/collapse zoom/pan cause/effect question/answer problem/solution theory/practice
    acid/base
    """
)
_GROUPS: Final = [frozenset(map(bare, group.split("/"))) for group in _OPPOSITES]
OPPOSITES: Final = {
    word: frozenset().union(*(group - {word} for group in _GROUPS if word in group))
    for word in {word for group in _GROUPS for word in group}
}
"""For each word, bare, those that would turn the sentence round in its place."""

PREFIXES: Final = listed("un dis in im ir il non de mis anti re pre post over under")
"""What turns the word behind it round."""
LANGUAGES: Final = words_of(
    """
    english french german spanish italian portuguese dutch polish russian ukrainian turkish arabic hebrew
    persian hindi urdu bengali tamil telugu marathi gujarati punjabi chinese mandarin cantonese japanese
    korean vietnamese thai indonesian malay swahili greek latin swedish norwegian danish finnish czech
    hungarian romanian
    """
)
"""Names even where they are written without a capital."""

HOMOGRAPHS: Final = words_of(
    """
    polish turkey china may march apple amazon windows word oracle swift rust go ruby java python shell
    chrome safari slack teams signal meta target gap visa delta alexa bush trump cook jobs gates rose mark
    bill rich will grace hope faith joy us it who
    """
)
"""Words that are a name when they have a capital, and something else when they have none."""
ROLES: Final = words_of(
    """
    who what when where why how which from to by with than like as against between via per if or and but i
    you he she it we they me him her us them my your his its our their can could should would will must
    may might do be have this these those of in into over under off up out
    """
)
"""Words that say nothing of themselves, and who does what to whom."""
COMMON: Final = sorted(ROLES | NEGATIONS | SAME.keys() | OPPOSITES.keys() | NUMBERS.keys() | AMOUNTS)
"""Words that come often; a sequence of letters that they have tells little."""

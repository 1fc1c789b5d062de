"""A stitcher that begins anew, from the ledger or from a journal."""

from collections.abc import Callable
from typing import Any

from support.stitchers import Stitchers

from collector.conversations.memory import RECENT, from_records, from_rows, scope_of
from collector.domain.stitching import Via, recall
from sidecar.wire.hashing import fold

SYSTEM = fold(0, "system", b"You keep the books of the northern branch.")
ASKED = fold(SYSTEM, "user", b"Which entries of March do not balance, and by how much?")
TOLD = fold(ASKED, "assistant", b"Two: the rent, by 12 euros, and the phone, by 3.")
GOES_ON = fold(TOLD, "user", b"Correct both.")


def test_a_conversation_of_the_ledger_is_gone_on_from(
    call: Callable[..., Any], enter: Callable[..., None], database: Any, noon_us: int
) -> None:
    kept = {"conversation_id": "kept", "message_hashes": [SYSTEM, ASKED], "last_message_hash": TOLD}
    enter(
        call(**kept, started_at_us=noon_us),
        call(**kept | {"conversation_id": "old"}, started_at_us=noon_us - 10**12),
        call(**kept | {"conversation_id": "vectors"}, api="openai.embeddings", started_at_us=noon_us + 5),
        call(**kept | {"conversation_id": ""}, started_at_us=noon_us + 6),
    )
    result = database.connection.execute(RECENT, [noon_us - 10**9])
    names = [about[0] for about in result.description]
    rows = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    stitcher: Any = Stitchers()
    recall(stitcher, from_rows(rows))

    placement = stitcher.place(scope_of("acme", "vk_1a2b3c", "u1"), [SYSTEM, ASKED, TOLD, GOES_ON], "fresh")
    assert (placement.conversation_id, placement.branch, placement.via) == ("kept", 0, Via.REPLY)
    other = stitcher.place(scope_of("acme", "vk_1a2b3c", "u2"), [SYSTEM, ASKED, TOLD, GOES_ON], "fresh")
    assert other.via is Via.NEW


def test_a_conversation_of_a_journal_is_gone_on_from(call: Callable[..., Any]) -> None:
    records = [
        call(conversation_id="kept", message_hashes=[SYSTEM, ASKED], last_message_hash=TOLD),
        call(conversation_id="kept", api="openai.completions"),
        call(conversation_id="", message_hashes=[SYSTEM, ASKED]),
    ]
    stitcher: Any = Stitchers()
    recall(stitcher, from_records(records))

    assert stitcher.conversations == 1
    placement = stitcher.place(scope_of("acme", "vk_1a2b3c", "u1"), [SYSTEM, ASKED, TOLD, GOES_ON], "fresh")
    assert placement.conversation_id == "kept"

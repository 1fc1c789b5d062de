"""F05: batches from another machine arrive once, however often they are sent."""

import errno
import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.domain.money import usd
from collector.ingest import remote
from collector.ingest import shipper as shipper_module
from collector.ingest.archive import ArchiveConfig
from collector.ingest.books import Books
from collector.ingest.remote import BadBatch, RemoteBatch, SequenceGap, packed, receive
from collector.ingest.shipper import Answer, Refused, Shipper
from collector.journal import encoded, frame_bytes, segments


def batch(*items, first=1, source="far", **options):
    return RemoteBatch(source=source, body=packed(encoded(items, first)), **options)


def test_a_batch_is_booked_and_sent_again_changes_nothing(books, rows, call):
    sent = batch(call(cost=1), call(cost=2))

    assert receive(books, sent) == 2
    assert receive(books, sent) == 2

    assert rows("SELECT count(*), sum(effective_cost_usd) FROM calls") == [(2, usd(3))]
    assert rows("SELECT source, remote, sequence FROM sources") == [("far", True, 2)]


def test_a_batch_that_overlaps_what_is_booked_adds_only_what_is_new(books, rows, call):
    first, second, third = call(), call(), call()
    receive(books, batch(first, second))

    assert receive(books, batch(second, third, first=2)) == 3
    assert rows("SELECT count(*) FROM calls") == [(3,)]


def test_a_batch_that_comes_too_early_is_refused_with_what_is_expected(books, rows, call):
    receive(books, batch(call()))

    with pytest.raises(SequenceGap) as refused:
        receive(books, batch(call(), first=5))

    assert refused.value.expected == 2
    assert rows("SELECT count(*) FROM calls") == [(1,)]


def test_a_gap_that_the_sender_owns_up_to_is_noted(books, rows, call):
    receive(books, batch(call()))
    assert receive(books, batch(call(), first=5, gap=True)) == 5
    assert rows("SELECT reason, frames FROM quarantined") == [("gap", 3)]


def test_the_end_of_a_source_books_what_it_left_open(books, rows, call, intent):
    receive(books, batch(intent(call(), hold_pico=7)))
    assert rows("SELECT count(*) FROM calls") == [(0,)]

    receive(books, batch(first=2, ended=True))
    receive(books, batch(first=2, ended=True))

    assert rows("SELECT effective_cost_usd, outcome_reason FROM calls") == [(usd(7), "crashed")]


@pytest.mark.parametrize(
    "broken",
    [
        RemoteBatch(source="far", body=b"not gzip"),
        RemoteBatch(source="far", body=gzip.compress(b"not frames at all")),
        RemoteBatch(source="far", body=gzip.compress(bytes(remote.MOST_UNPACKED_BYTES + 1))),
        RemoteBatch(source="../x", body=packed(b"")),
        RemoteBatch(source="", body=packed(b"")),
    ],
)
def test_a_batch_that_is_none_is_refused_whole(books, rows, broken):
    with pytest.raises(BadBatch):
        receive(books, broken)
    assert rows("SELECT count(*) FROM sources") == [(0,)]


def test_a_batch_with_a_wrong_check_sum_or_a_hole_is_refused_whole(books, rows, call):
    frames = bytearray(encoded([call(), call()]))
    frames[-1] ^= 1
    with pytest.raises(BadBatch):
        receive(books, RemoteBatch(source="far", body=packed(bytes(frames))))
    with pytest.raises(BadBatch, match="hole"):
        receive(books, RemoteBatch(source="far", body=packed(encoded([call()]) + encoded([call()], 3))))
    assert rows("SELECT count(*) FROM calls") == [(0,)]


def test_a_source_of_this_machine_takes_no_batches(books, enter, call):
    enter(call(), source="near")
    with pytest.raises(BadBatch, match="own machine"):
        receive(books, batch(call(), first=2, source="near"))


class Line:
    """The way to a collector, which loses requests and answers as told."""

    def __init__(self, books) -> None:
        self.books = books
        self.faults = []
        self.sizes = []

    def __call__(self, about, body):
        fault = self.faults.pop() if self.faults else "none"
        if fault == "request lost":
            raise ConnectionError
        sent = RemoteBatch(
            source=about["source"], body=body, gap=about.get("gap") == "1", ended=about.get("ended") == "1"
        )
        self.sizes.append(len(body))
        try:
            answer = Answer(200, {"sequence": receive(self.books, sent)})
        except SequenceGap as error:
            answer = Answer(409, {"expected": error.expected})
        except BadBatch as error:
            answer = Answer(400, {"error": str(error)})
        if fault == "answer lost":
            raise ConnectionError
        return answer


def ship(shipper, rounds=200):
    idle = 0
    for _ in range(rounds):
        try:
            idle = 0 if shipper.step() else idle + 1
        except ConnectionError:
            idle = 0
        if idle > 2:
            return


def test_a_directory_arrives_whole_in_batches_below_a_mebibyte(journal, books, rows, call):
    line = Line(books)
    calls = [call(cost=n, user_agent=f"{n}" * 1000) for n in range(1500)]
    journal.write(*calls, source="far", segment_bytes=700_000)

    ship(Shipper(journal.directory, line))

    assert rows("SELECT count(*), sum(effective_cost_usd) FROM calls") == [(1500, usd(sum(range(1500))))]
    assert rows("SELECT sequence, ended FROM sources") == [(1500, True)]
    assert len(line.sizes) > 2
    assert max(line.sizes) <= remote.MOST_BYTES


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(st.sampled_from(["none", "request lost", "answer lost", "shipper killed"]), max_size=14)
)
def test_whatever_gets_lost_on_the_way_each_call_arrives_once(
    faults, tmp_path_factory, journal_at, call, intent
):
    from collector.store.duckdb import DatabaseConfig
    from collector.store.opening import open_ledger

    folder = tmp_path_factory.mktemp("far")
    database = open_ledger(folder, DatabaseConfig()).database
    line = Line(Books(database))
    journal = journal_at(folder / "journal")
    calls = [call(cost=n) for n in range(40)]
    journal.write(*(i for c in calls for i in (intent(c), c)), source="far", segment_bytes=8000)
    shipper = Shipper(journal.directory, line)
    for fault in faults:
        if fault == "shipper killed":
            shipper = Shipper(journal.directory, line)
        else:
            line.faults = [fault]
            ship(shipper, rounds=1)
    line.faults = []
    ship(shipper)

    found = database.connection.execute("SELECT count(*), sum(effective_cost_usd) FROM calls").fetchone()
    left = database.connection.execute("SELECT count(*) FROM pending").fetchone()
    database.close()
    assert found == (40, usd(sum(range(40))))
    assert left == (0,)


def test_after_the_collector_lost_its_books_everything_that_is_kept_is_sent_again(
    journal, database, books, rows, call
):
    line = Line(books)
    journal.write(*(call(cost=n) for n in range(100)), source="far", segment_bytes=10_000)
    shipper = Shipper(journal.directory, line)
    ship(shipper)
    writer = journal.writer("far2")
    writer.record(call(cost=1))
    ship(shipper)
    for table in ("calls", "attempts", "sources"):
        database.connection.execute(f"DELETE FROM {table}")
    line.books = Books(database)

    writer.record(call(cost=1))
    ship(shipper)
    ship(Shipper(journal.directory, line))

    assert rows("SELECT count(*), sum(effective_cost_usd) FROM calls") == [(102, usd(sum(range(100)) + 2))]
    assert rows("SELECT count(*) FROM quarantined") == [(0,)]


def test_what_the_sender_no_longer_has_is_noted_as_lost(journal, books, rows, call):
    journal.write(*(call() for _ in range(60)), source="far", segment_bytes=10_000)
    segments(journal.directory)[0].path.unlink()

    ship(Shipper(journal.directory, Line(books)))

    ((kept,),) = rows("SELECT count(*) FROM calls")
    assert rows("SELECT reason, frames FROM quarantined") == [("gap", 60 - kept)]
    assert 0 < kept < 60


def test_segments_go_after_they_are_acknowledged_and_not_before(journal, books, call):
    line = Line(books)
    journal.write(*(call() for _ in range(60)), source="far", segment_bytes=10_000)
    shipper = Shipper(journal.directory, line, ArchiveConfig(grace_s=0))
    shipper.let_go()
    assert len(segments(journal.directory)) > 3

    ship(shipper)
    shipper.let_go()
    assert segments(journal.directory) == []


def test_a_collector_that_refuses_is_not_ignored(journal, call):
    journal.write(call(), source="far")
    with pytest.raises(Refused, match="401"):
        Shipper(journal.directory, lambda about, body: Answer(401, {"error": "no key"})).step()


def test_a_source_that_cannot_be_read_or_is_not_taken_holds_up_no_other(
    journal, books, rows, call, monkeypatch
):
    journal.write(call(), source="a-unreadable")
    journal.write(call(), source="b not taken")
    journal.write(call(), source="c")
    read = shipper_module.read_frames

    def refused(path, *args, **more):
        if path.name.startswith("a-"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(path, *args, **more)

    shipper = Shipper(journal.directory, Line(books))
    with monkeypatch.context() as rights:
        rights.setattr(shipper_module, "read_frames", refused)
        ship(shipper)
    assert rows("SELECT source FROM sources") == [("c",)]

    for _ in range(100):
        shipper.step()
    assert rows("SELECT source FROM sources ORDER BY 1") == [("a-unreadable",), ("c",)]


def test_a_frame_of_an_unknown_kind_is_sent_like_any_other(journal, books, rows, call):
    journal.write(call(), source="far")
    (segment,) = segments(journal.directory)
    with segment.path.open("ab") as file:
        file.write(frame_bytes(2, 77, b"from tomorrow"))

    ship(Shipper(journal.directory, Line(books)))

    assert rows("SELECT sequence, ended FROM sources") == [(2, True)]
    assert rows("SELECT reason FROM quarantined") == [("undecodable",)]

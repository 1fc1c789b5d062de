"""The keeper of the books notices what changes around it."""

import threading
import time
from decimal import Decimal

from collector.ingest.keeper import Keeper, KeeperConfig
from collector.ingest.state import State


def test_prices_that_change_while_it_runs_are_written_beside_those_before(tmp_path):
    told = [{"m": {"input": Decimal(1), "output": Decimal(3)}}]
    config = KeeperConfig(
        data_dir=tmp_path,
        commit_interval_s=0.01,
        prices={"m": {"input": Decimal(1), "output": Decimal(2)}},
        changed_prices=lambda: told.pop() if told else None,
    )
    state, stop = State(data_dir=tmp_path), threading.Event()
    thread = threading.Thread(target=Keeper(config, state, stop).run)
    thread.start()
    try:
        until, found = time.monotonic() + 30, []
        while len(found) < 2 and time.monotonic() < until:
            time.sleep(0.01)
            if state.ledger is not None:
                reader = state.ledger.books.database.reader()
                found = reader.execute(
                    "SELECT output_usd * 1000000 FROM prices WHERE price_grade = 'configured' ORDER BY 1"
                ).fetchall()
                reader.close()
    finally:
        stop.set()
        thread.join()

    assert found == [(Decimal(2),), (Decimal(3),)]

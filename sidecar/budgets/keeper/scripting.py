"""The scripts of the shared store, run here: the same text that Redis runs, in the same Lua.

Only those scripts are run, whatever else is sent: nothing of Python can be reached from them.
"""

from collections.abc import Callable, Sequence
from typing import Any

from lupa.lua51 import LuaError, LuaRuntime

from sidecar.budgets.keeper.values import Values, WrongCommand
from sidecar.budgets.redis_scripts import load_scripts


class Scripts:
    """Runs our scripts over ``values``; one at a time, so each is atomic."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._lua: Any = LuaRuntime(
            encoding=None, unpack_returned_tuples=False, register_eval=False, register_builtins=False
        )
        self._lua.globals()[b"call"] = self._call
        self._nothing = self._lua.eval(b"false")
        self._known: dict[bytes, Callable[..., Any]] = {}
        for script in load_scripts().values():
            text = f"local redis = {{call = call}}\nreturn function(KEYS, ARGV) {script.text}\nend"
            self._known[script.sha.encode()] = self._lua.execute(text.encode())
        self._shas = {script.text.encode(): script.sha.encode() for script in load_scripts().values()}

    def sha_of(self, text: bytes) -> bytes | None:
        """The digest of a script of ours; None for any other text."""
        return self._shas.get(text)

    def run(self, sha: bytes, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """What the script answers: whole numbers, bytes, None, and lists of these.

        Raises:
            WrongCommand: it is none of ours, or failed.
        """
        script = self._known.get(sha)
        if script is None:
            raise WrongCommand("NOSCRIPT No matching script. Please use EVAL.")
        table = self._lua.table_from
        try:
            return plain(script(table(keys), table(arguments)))
        except LuaError as error:
            raise WrongCommand(f"ERR {error}".replace("\r", " ").replace("\n", " ")[:300]) from error

    def _call(self, name: bytes, *arguments: bytes | int | float) -> Any:
        words = [word if isinstance(word, bytes) else b"%.17g" % word for word in arguments]
        answer = self._values.do(name, words)
        if answer is None:
            return False
        if isinstance(answer, list):
            return self._lua.table_from([False if item is None else item for item in answer])
        return answer


def plain(answer: Any) -> Any:
    """What a script answered, as the wire knows it."""
    if answer is None or answer is False:
        return None
    if isinstance(answer, bytes):
        return answer
    if isinstance(answer, int | float):
        return int(answer)
    found = []
    for at in range(1, len(answer) + 1):
        item = answer[at]
        if item is None:
            break
        found.append(plain(item))
    return found

"""Rules about our own code that a reviewer would otherwise have to remember, read off its syntax."""

import ast
import re

import pytest

from tests.project.conftest import dotted

PROCESS_STARTERS = {
    "sidecar/commands/": "our own components, supervised",
    "sidecar/proving/stage.py": "our own components and a Redis, for `bursar prove`",
    "sidecar/providers/worker.py": "a fixed command: litellm's process, told all on its standard input",
    "sidecar/cache/similar/asking.py": "a fixed command: the finder, told all on its standard input",
    "inference/launch": "vLLM, as the configuration says",
    "collector/api/app.py": "a fixed command: the sandbox for a SELECT, with none of our environment",
}
"""Where processes may be started, and which. No endpoint takes a command."""

SQL = re.compile(
    r"\s*\(?\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|ATTACH|DETACH|COPY|WITH|PRAGMA|SET|EXPORT|IMPORT"
    r"|CHECKPOINT|VACUUM|CALL|LOAD|INSTALL)\b"
)
SQL_BUILDERS = {
    "collector/store/spent.py": "columns are those declared in this file; values are bound",
    "collector/store/cache_questions.py": "figures of our own; values are bound",
    "collector/conversations/memory.py": "names of our own dialects; values are bound",
    "collector/ingest/otlp/linking.py": "expressions are those declared in this file; values are bound",
    "collector/ingest/otlp/table.py": "columns are those declared in this file",
    "collector/ingest/charges.py": "columns are those declared in this file",
    "collector/ingest/books.py": "table names come from the schema; values are bound",
    "collector/judging/judge.py": "tables and columns are those declared in this file; values are bound",
    "collector/judging/rows.py": "columns are those declared in this file; values are bound",
    "collector/judging/tables.py": "tables and columns are those declared in this file; values are bound",
    "collector/store/agent_questions.py": "names and texts are our own; values are bound",
    "collector/store/duckdb.py": "names come from the database itself, paths are quoted",
    "collector/store/gpu_questions.py": "names are our own; values are bound",
    "collector/store/machine_sums.py": "levels and columns are those declared in this file; values are bound",
    "collector/store/migrate.py": "versions and names come from the steps in the project",
    "collector/store/noted.py": "levels are those declared in this file; values are bound",
    "collector/store/prices.py": "columns are those declared in this file",
    "collector/store/questions.py": "sums and dimensions are those declared in the schema; values are bound",
    "collector/store/retention.py": "tables and columns are those declared in this file; values are bound",
    "collector/store/rollups.py": "sums and dimensions are those declared in the schema",
    "collector/store/schema.py": "columns are those declared in this file",
    "collector/store/talk_sums.py": "columns and levels are those declared in the schema; values are bound",
    "collector/store/talks.py": "columns and levels are those declared in the schema; values are bound",
    "collector/store/search_statements.py": "columns are those declared in the schema; values are bound",
    "collector/store/statements.py": "sums and dimensions are those declared in the schema; values are bound",
}
"""Files in which SQL is put together, and why nothing from outside can get into it. Everything that
comes from a caller is a bound parameter, here too; each such line also carries the linter's mark."""


def is_true(node: ast.AST) -> bool:
    return not (isinstance(node, ast.Constant) and not node.value)


@pytest.mark.parametrize("name", ["eval", "exec", "compile", "__import__"])
def test_no_text_is_run_as_code(sources, name: str) -> None:
    assert [s.place(node) for s in sources for node, called in s.calls if called == name] == []


@pytest.mark.parametrize("module", ["pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"])
def test_no_bytes_are_read_as_objects(sources, module: str) -> None:
    importing = [
        s.place(node)
        for s in sources
        for node in s.nodes
        if (isinstance(node, ast.Import) and any(a.name.split(".")[0] == module for a in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == module)
    ]
    assert importing == []


def test_yaml_is_only_ever_read_as_plain_data(sources) -> None:
    def is_safe(node: ast.Call, called: str) -> bool:
        loaders = [dotted(keyword.value) for keyword in node.keywords if keyword.arg == "Loader"]
        return called.endswith("safe_load") or loaders in (["yaml.SafeLoader"], ["yaml.CSafeLoader"])

    readers = ("load", "load_all", "compose", "compose_all", "full_load", "unsafe_load", "safe_load")
    unsafe = [
        s.place(node)
        for s in sources
        for node, called in s.calls
        if called.startswith("yaml.") and called.split(".")[1] in readers and not is_safe(node, called)
    ]
    assert unsafe == []


def test_no_shell_is_ever_started(sources) -> None:
    shells = [
        s.place(node)
        for s in sources
        for node, called in s.calls
        if called in ("os.system", "os.popen", "asyncio.create_subprocess_shell", "subprocess.getoutput")
        or any(keyword.arg == "shell" and is_true(keyword.value) for keyword in node.keywords)
    ]
    assert shells == []


def test_processes_are_started_where_they_are_supervised_and_nowhere_else(sources) -> None:
    starting = [
        s.place(node)
        for s in sources
        if not s.path.startswith(tuple(PROCESS_STARTERS))
        for node in s.nodes
        if (isinstance(node, ast.Import) and any(a.name.split(".")[0] == "subprocess" for a in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "subprocess")
        or (
            isinstance(node, ast.Call)
            and re.search(
                r"\b(create_subprocess_\w+|os\.(exec|spawn|fork|posix_spawn)\w*)$", dotted(node.func)
            )
        )
    ]
    assert starting == []


def test_no_redirect_is_followed(sources) -> None:
    following = [
        s.place(node)
        for s in sources
        for node, _ in s.calls
        for keyword in node.keywords
        if keyword.arg in ("follow_redirects", "allow_redirects") and is_true(keyword.value)
    ]
    assert following == []


def test_a_body_is_never_spread_into_litellms_arguments(sources) -> None:
    spreading = [
        s.place(node)
        for s in sources
        for node, called in s.calls
        if called.startswith("litellm.") and any(keyword.arg is None for keyword in node.keywords)
    ]
    assert spreading == []


def interpolations(node: ast.JoinedStr) -> list[ast.expr]:
    return [part.value for part in node.values if isinstance(part, ast.FormattedValue)]


def is_constant_name(node: ast.expr) -> bool:
    """``TABLE``, ``_TABLE``, ``schema.TABLE``: what by our convention never changes."""
    return bool(re.fullmatch(r"(\w+\.)*_?[A-Z][A-Z0-9_]*", dotted(node)))


def starts_like_sql(node: ast.JoinedStr) -> bool:
    first = node.values[0] if node.values else None
    return isinstance(first, ast.Constant) and bool(SQL.match(str(first.value)))


def test_sql_is_put_together_from_our_own_names_only(sources) -> None:
    loose = [
        f"{s.place(node)}: {ast.unparse(node)[:100]}"
        for s in sources
        if s.path.startswith("collector/") and s.path not in SQL_BUILDERS
        for node in s.nodes
        if isinstance(node, ast.JoinedStr) and starts_like_sql(node)
        if not all(is_constant_name(part) for part in interpolations(node))
    ]
    assert loose == []


def test_every_file_that_may_build_sql_still_does(sources) -> None:
    building = {
        s.path
        for s in sources
        for node in s.nodes
        if isinstance(node, ast.JoinedStr) and starts_like_sql(node)
        if not all(is_constant_name(part) for part in interpolations(node))
    }
    assert sorted(set(SQL_BUILDERS) - building) == []


def test_no_sql_at_all_is_written_where_calls_are_carried(sources) -> None:
    # In capitals, as everywhere here, so that prose does not count.
    statement = re.compile(r"\b(SELECT .+ FROM|INSERT INTO|DELETE FROM|UPDATE \w+ SET)\b")
    writing = [
        s.place(node)
        for s in sources
        if s.path.startswith(("sidecar/", "alerts/", "inference/", "dashboards/"))
        for node in s.nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and statement.search(node.value)
    ]
    assert writing == []


def test_prints_go_through_the_command_line_alone(sources) -> None:
    printing = [
        s.place(node)
        for s in sources
        if not s.path.startswith(("sidecar/commands/", "sidecar/cli.py"))
        and not s.path.endswith("__main__.py")
        for node, called in s.calls
        if called == "print"
    ]
    assert printing == []


def test_every_warning_of_the_linter_that_is_silenced_is_named(sources) -> None:
    blanket = [
        f"{s.path}:{number}"
        for s in sources
        for number, line in enumerate(s.lines, 1)
        if re.search(r"#\s*noqa(?!:)", line) or re.search(r"#\s*type:\s*ignore(?!\[)", line)
    ]
    assert blanket == []


def test_nothing_is_left_to_be_done_later(sources) -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    left = [f"{s.path}:{n}" for s in sources for n, line in enumerate(s.lines, 1) if marks.search(line)]
    assert left == []

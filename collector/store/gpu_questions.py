# ruff: noqa: S608  (names are our own; values are bound)
"""Questions about GPUs of one's own: how busy they are, and what a token on them really costs.

They stand on sums of the measurements (`collector.store.machine_sums`) where there are some: ``{gpus}``,
``{engines}`` and ``{windows}`` are the rows of the period, ``{step}`` is the step that a row belongs to.
"""

from collector.store.question import Question

_PERIOD = ("since", "until", "tz")
_USD = "DECIMAL(38,12)"


def _usd(expression: str, name: str) -> str:
    return f"coalesce({expression}, CAST(0 AS {_USD})) AS {name}"


def _per_million(money: str, tokens: str) -> str:
    return f"CAST(1000000 * CAST({money} AS DOUBLE) / nullif({tokens}, 0) AS DOUBLE)"


def _mean(name: str) -> str:
    return f"sum({name}_sum) / nullif(sum({name}_count), 0) AS {name}"


def _number(name: str) -> str:
    return f"CAST(coalesce(sum({name}), 0) AS BIGINT) AS {name}"


_TOKENS = "sum(prompt_tokens) + sum(cached_tokens) + sum(output_tokens)"
_RATIO = "CAST({} AS DOUBLE) / nullif(CAST({} AS DOUBLE), 0)"
_SUMS = f"""
    {_usd("sum(meter_usd)", "meter_usd")}, {_usd("sum(charged_usd)", "charged_usd")},
    {_usd("sum(idle_usd)", "idle_usd")}, {_usd("sum(unobserved_usd)", "unobserved_usd")},
    {_RATIO.format("sum(idle_usd)", "sum(meter_usd)")} AS idle_ratio,
    {_RATIO.format("sum(unobserved_usd)", "sum(meter_usd)")} AS unobserved_ratio,
    {_RATIO.format("sum(gpu_ms) - sum(idle_gpu_ms)", "sum(gpu_ms)")} AS busy_ratio,
    sum(energy_j) AS energy_j, sum(idle_energy_j) AS idle_energy_j,
    CAST(coalesce(sum(prompt_tokens), 0) AS BIGINT) AS prompt_tokens,
    CAST(coalesce(sum(cached_tokens), 0) AS BIGINT) AS cached_tokens,
    CAST(coalesce(sum(output_tokens), 0) AS BIGINT) AS output_tokens,
    {_RATIO.format("sum(cached_tokens)", "sum(cached_tokens) + sum(prompt_tokens)")} AS prefix_hit_ratio,
    {_usd("sum(cache_saved_usd)", "cache_saved_usd")},
    {_usd("sum(alternative_usd)", "alternative_usd")},
    {_per_million("sum(meter_usd) - sum(idle_usd)", _TOKENS)} AS busy_usd_per_mtok,
    {_per_million("sum(meter_usd)", _TOKENS)} AS loaded_usd_per_mtok,
    {_per_million("sum(alternative_usd)", _TOKENS)} AS alternative_usd_per_mtok"""

GPU_COSTS = Question(
    name="gpu_costs",
    help="What each replica of own GPUs cost, divided into charged, idle and unobserved (they sum to the"
    " meter), beside what the alternative would have asked for the same tokens.",
    parameters=(*_PERIOD, "upstream", "limit"),
    sql=f"""
        SELECT upstream, replica, arg_max(model, ended_at) AS model, {_SUMS},
            {_RATIO.format("sum(gpu_ms) - sum(idle_gpu_ms)", "sum(gpu_ms)")}
                * {_RATIO.format("sum(meter_usd)", "sum(alternative_usd)")} AS break_even_busy_ratio,
            arg_max(alternative, alternative_at) AS alternative,
            arg_max(alternative_grade, alternative_at) AS alternative_grade,
            arg_max(method, ended_at) AS method, arg_max(residual, ended_at) AS residual,
            CAST(coalesce(sum(windows), 0) AS BIGINT) AS windows
        FROM {{windows}}
        GROUP BY upstream, replica ORDER BY upstream, replica LIMIT $limit""",
)

GPU_COSTS_OVER_TIME = Question(
    name="gpu_costs_over_time",
    help="The same for each step of the period: about a three-hundredth of it.",
    parameters=(*_PERIOD, "upstream"),
    sql=f"""
        SELECT {{step}} AS bucket, upstream, {_SUMS}
        FROM {{windows}}
        GROUP BY {{step}}, upstream ORDER BY 1, upstream""",
)

GPUS_OVER_TIME = Question(
    name="gpus_over_time",
    help="How busy each GPU was, how much memory it used and power it drew, for each step of the period.",
    parameters=(*_PERIOD, "gpu"),
    sql=f"""
        SELECT {{step}} AS bucket, host, gpu, any_value(name) AS name,
            {_mean("utilisation_ratio")},
            max(memory_used_bytes) AS memory_used_bytes, max(memory_total_bytes) AS memory_total_bytes,
            {_mean("power_watts")}, max(temperature_celsius) AS temperature_celsius,
            {_mean("sm_clock_hz")},
            {_number("lost_samples")}, {_number("throttled_samples")}, {_number("samples")}
        FROM {{gpus}}
        GROUP BY {{step}}, host, gpu ORDER BY 1, host, gpu""",
)

ENGINES_OVER_TIME = Question(
    name="engines_over_time",
    help="Each model server: requests running and waiting, KV cache in use, tokens and prefix hits, by step.",
    parameters=(*_PERIOD, "upstream"),
    sql=f"""
        SELECT {{step}} AS bucket, upstream, replica, any_value(model) AS model,
            {_mean("running")}, {_mean("waiting")}, max(most_waiting) AS most_waiting,
            {_mean("kv_cache_usage_ratio")},
            {_number("computed_prompt_tokens")}, {_number("cached_prompt_tokens")},
            {_number("generation_tokens")},
            {
        _RATIO.format(
            "sum(cached_prompt_tokens)", "(sum(cached_prompt_tokens) + sum(computed_prompt_tokens))"
        )
    } AS prefix_hit_ratio,
            {_number("preemptions")}, {_number("unreachable_samples")}, {_number("restarts")},
            {_number("samples")}
        FROM {{engines}}
        GROUP BY {{step}}, upstream, replica ORDER BY 1, upstream, replica""",
)

GPU_CHARGES = Question(
    name="gpu_charges",
    help="What the attempts of one call were charged for own GPUs, window by window.",
    parameters=("call_id",),
    sql="SELECT * FROM gpu_charges WHERE call_id = $call_id ORDER BY attempt, window_start LIMIT 10000",
)

GPU_QUESTIONS = (GPU_COSTS, GPU_COSTS_OVER_TIME, GPUS_OVER_TIME, ENGINES_OVER_TIME, GPU_CHARGES)

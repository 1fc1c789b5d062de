-- Sums of what was measured of own GPUs and model servers: by the minute, and by the hour of what they cost. They
-- begin empty and are filled from the measurements, a step at a time; until then those answer
-- (`collector/store/machine_sums.py`).

CREATE TABLE gpus_by_minute (
    bucket TIMESTAMP,
    host VARCHAR,
    gpu VARCHAR,
    name VARCHAR,
    utilisation_ratio_sum DOUBLE,
    utilisation_ratio_count BIGINT,
    power_watts_sum DOUBLE,
    power_watts_count BIGINT,
    sm_clock_hz_sum DOUBLE,
    sm_clock_hz_count BIGINT,
    memory_used_bytes BIGINT,
    memory_total_bytes BIGINT,
    temperature_celsius DOUBLE,
    lost_samples BIGINT,
    throttled_samples BIGINT,
    samples BIGINT
);

CREATE TABLE engines_by_minute (
    bucket TIMESTAMP,
    upstream VARCHAR,
    replica VARCHAR,
    model VARCHAR,
    running_sum DOUBLE,
    running_count BIGINT,
    waiting_sum DOUBLE,
    waiting_count BIGINT,
    kv_cache_usage_ratio_sum DOUBLE,
    kv_cache_usage_ratio_count BIGINT,
    most_waiting INTEGER,
    computed_prompt_tokens BIGINT,
    cached_prompt_tokens BIGINT,
    generation_tokens BIGINT,
    preemptions BIGINT,
    unreachable_samples BIGINT,
    restarts BIGINT,
    samples BIGINT
);

CREATE TABLE gpu_windows_by_hour (
    bucket TIMESTAMP,
    upstream VARCHAR,
    replica VARCHAR,
    meter_usd DECIMAL(38,12),
    charged_usd DECIMAL(38,12),
    idle_usd DECIMAL(38,12),
    unobserved_usd DECIMAL(38,12),
    cache_saved_usd DECIMAL(38,12),
    alternative_usd DECIMAL(38,12),
    gpu_ms DOUBLE,
    idle_gpu_ms DOUBLE,
    energy_j DOUBLE,
    idle_energy_j DOUBLE,
    prompt_tokens BIGINT,
    cached_tokens BIGINT,
    output_tokens BIGINT,
    windows BIGINT,
    model VARCHAR,
    method VARCHAR,
    residual DOUBLE,
    alternative VARCHAR,
    alternative_grade VARCHAR,
    ended_at TIMESTAMP,
    alternative_at TIMESTAMP
);

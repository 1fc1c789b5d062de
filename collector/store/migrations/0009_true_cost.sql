-- What own GPUs really cost: the meter of each replica, window by window, and what of it each attempt is charged.
-- Rows are only ever added. Over any rows of a replica, charged + idle + unobserved = meter, to the last digit;
-- a late attempt adds a row that moves money from unobserved to charged and has no meter of its own.

CREATE TABLE engine_samples (
    sampled_at TIMESTAMP,
    upstream VARCHAR,
    replica VARCHAR,
    model VARCHAR,
    state VARCHAR,
    restarted BOOLEAN,
    interval_ms DOUBLE,
    running INTEGER,
    waiting INTEGER,
    kv_cache_usage_ratio DOUBLE,
    computed_prompt_tokens BIGINT,
    cached_prompt_tokens BIGINT,
    generation_tokens BIGINT,
    steps BIGINT,
    preemptions BIGINT,
    attributes JSON
);

CREATE TABLE gpu_windows (
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    upstream VARCHAR,
    replica VARCHAR,
    model VARCHAR,
    kind VARCHAR,
    meter_usd DECIMAL(18,12),
    charged_usd DECIMAL(18,12),
    idle_usd DECIMAL(18,12),
    unobserved_usd DECIMAL(18,12),
    gpu_ms DOUBLE,
    charged_gpu_ms DOUBLE,
    idle_gpu_ms DOUBLE,
    energy_j DOUBLE,
    charged_energy_j DOUBLE,
    idle_energy_j DOUBLE,
    busy_ms DOUBLE,
    prompt_tokens BIGINT,
    cached_tokens BIGINT,
    output_tokens BIGINT,
    alternative VARCHAR,
    alternative_grade VARCHAR,
    alternative_usd DECIMAL(18,12),
    method VARCHAR,
    residual DOUBLE
);

-- One row an attempt and movement; the first that an attempt has takes the place of its estimate.
CREATE TABLE gpu_charges (
    window_start TIMESTAMP,
    call_id VARCHAR,
    attempt BIGINT,
    upstream VARCHAR,
    replica VARCHAR,
    busy_usd DECIMAL(18,12),
    idle_share_usd DECIMAL(18,12),
    gpu_ms DOUBLE,
    energy_j DOUBLE,
    method VARCHAR,
    residual DOUBLE
);

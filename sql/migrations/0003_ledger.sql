-- The ledger: one row per completion, one per attempt towards it. Prompts and replies are not stored.

create table openrouter.completions (
    -- Made by the server, never by a client: a caller that repeats its X-Request-Id cannot hide a completion.
    id                uuid primary key,
    request_id        text not null check (length(request_id) between 1 and 200),
    user_id           uuid,
    caller            text not null check (caller in ('user', 'admin', 'service')),
    use_case          text not null,
    requested_model   text,
    provider          text,
    model_id          uuid references public.api_models (id) on delete set null,
    model             text,
    upstream_model    text,
    streamed          boolean not null default false,
    outcome           text not null check (outcome in ('complete', 'truncated', 'cancelled', 'failed')),
    finish_reason     text check (finish_reason in ('stop', 'length', 'content_filter', 'tool_calls')),
    error_code        text check (error_code ~ '^[A-Z_]{2,64}$'),
    input_tokens      bigint check (input_tokens >= 0),
    output_tokens     bigint check (output_tokens >= 0),
    total_tokens      bigint check (total_tokens >= 0),
    cached_tokens     bigint check (cached_tokens >= 0),
    reasoning_tokens  bigint check (reasoning_tokens >= 0),
    cost_usd          numeric check (cost_usd >= 0),
    cost_source       text not null check (cost_source in ('provider', 'computed', 'estimated', 'unknown')),
    unpriced_attempts integer not null default 0,
    response_time_ms  integer not null check (response_time_ms >= 0),
    first_token_ms    integer check (first_token_ms >= 0),
    used_fallback     boolean not null default false,
    attempt_count     integer not null check (attempt_count >= 0),
    params            jsonb not null default '{}',
    prompt_chars      integer,
    prompt_sha256     text,
    reply_chars       integer,
    started_at        timestamptz not null,
    recorded_at       timestamptz not null default now(),
    check ((cost_usd is null) = (cost_source = 'unknown')),
    check ((outcome = 'failed') <= (error_code is not null))
);

comment on table openrouter.completions is 'One row per answered (or failed) request. Costs in USD; null means unknown.';
comment on column openrouter.completions.model is 'Slug of the model row that answered, or of the last one that was asked.';
comment on column openrouter.completions.upstream_model is 'The slug that the provider says it served; often dated.';
comment on column openrouter.completions.unpriced_attempts is 'Attempts that may have been billed without our learning how much.';

create index completions_started_idx on openrouter.completions (started_at);
create index completions_user_idx on openrouter.completions (user_id, started_at);
create index completions_request_idx on openrouter.completions (request_id);
create index completions_model_idx on openrouter.completions (model_id);

alter table openrouter.completions enable row level security;
revoke all on table openrouter.completions from public, anon, authenticated, service_role;


create table openrouter.completion_attempts (
    completion_id      uuid not null references openrouter.completions (id) on delete cascade,
    attempt            integer not null check (attempt >= 1),
    provider           text not null,
    model_id           uuid references public.api_models (id) on delete set null,
    model              text not null,
    upstream_model     text,
    upstream_provider  text,
    generation_id      text,
    status             integer,
    code               text,
    duration_ms        integer not null check (duration_ms >= 0),
    first_token_ms     integer check (first_token_ms >= 0),
    input_tokens       bigint check (input_tokens >= 0),
    output_tokens      bigint check (output_tokens >= 0),
    cached_tokens      bigint check (cached_tokens >= 0),
    cache_write_tokens bigint check (cache_write_tokens >= 0),
    reasoning_tokens   bigint check (reasoning_tokens >= 0),
    provider_cost_usd  numeric check (provider_cost_usd >= 0),
    computed_cost_usd  numeric check (computed_cost_usd >= 0),
    cost_usd           numeric check (cost_usd >= 0),
    cost_source        text not null check (cost_source in ('provider', 'computed', 'estimated', 'unknown', 'none')),
    primary key (completion_id, attempt)
);

comment on table openrouter.completion_attempts is 'One row per HTTP call towards a completion.';
comment on column openrouter.completion_attempts.cost_source is
    'none: the provider charged nothing for it. Reported and computed cost are both kept.';

create index completion_attempts_model_idx on openrouter.completion_attempts (model_id);
create index completion_attempts_generation_idx on openrouter.completion_attempts (generation_id);

alter table openrouter.completion_attempts enable row level security;
revoke all on table openrouter.completion_attempts from public, anon, authenticated, service_role;


create table openrouter.quality_issues (
    completion_id uuid not null references openrouter.completions (id) on delete cascade,
    code          text not null check (code ~ '^[a-z][a-z0-9_]{1,62}$'),
    detail        text check (length(detail) <= 500),
    primary key (completion_id, code)
);

comment on table openrouter.quality_issues is 'What was flagged in a reply. A flag decides nothing.';

alter table openrouter.quality_issues enable row level security;
revoke all on table openrouter.quality_issues from public, anon, authenticated, service_role;

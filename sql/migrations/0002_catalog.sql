-- What can answer, at what price, for what: edited by admins in SQL, from supabase-js or from the admin doors.

create table public.api_providers (
    id            uuid primary key default gen_random_uuid(),
    name          text not null check (btrim(name) <> '' and length(name) <= 200),
    display_name  text not null check (btrim(display_name) <> '' and length(display_name) <= 200),
    provider_type text not null check (provider_type in ('openrouter', 'chat_worker', 'openai_compatible')),
    base_url      text check (base_url ~ '^https?://[^[:space:]]+$'),
    -- The NAME of an environment variable, never a key. Names of the platform's own secrets are refused,
    -- so that a row cannot send them to a base_url.
    secret_name   text check (
        secret_name ~ '^[A-Z][A-Z0-9_]{2,63}$'
        and secret_name !~ '^(SUPABASE_|AWS_|DATABASE_|WEBHOOK_|PG)'
    ),
    is_active     boolean not null default true,
    priority      integer not null default 100,
    rate_limits   jsonb not null default '{}' check (jsonb_typeof(rate_limits) = 'object'),
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now()
);

comment on table public.api_providers is 'Who serves models: OpenRouter, the chat worker, or an OpenAI-compatible server.';
comment on column public.api_providers.base_url is 'Null: the deployment''s setting (OPENROUTER_BASE_URL, CHAT_WORKER_URL) decides.';
comment on column public.api_providers.secret_name is 'Name of the environment variable that holds the key.';
comment on column public.api_providers.priority is 'Lower is preferred where two providers serve the same slug.';

create unique index api_providers_name_key on public.api_providers (lower(name));


create function openrouter.complete_provider()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    new.display_name := coalesce(new.display_name, new.name);
    if new.secret_name is null then
        new.secret_name := case new.provider_type
            when 'openrouter' then 'OPENROUTER_API_KEY'
            when 'chat_worker' then 'CHAT_WORKER_TOKEN'
        end;
    end if;
    return new;
end
$$;

comment on function openrouter.complete_provider() is 'Trigger: fills what the short INSERT of the manual leaves out.';
revoke execute on function openrouter.complete_provider() from public, anon, authenticated, service_role;

create trigger _100_complete before insert or update on public.api_providers
    for each row execute function openrouter.complete_provider();
create trigger _200_touch before update on public.api_providers
    for each row execute function openrouter.touch_updated_at();

alter table public.api_providers enable row level security;

-- Users see models, not providers: secret_name and base_url are for admins.
create policy admins_edit on public.api_providers
    for all to authenticated
    using ((select openrouter.is_admin()))
    with check ((select openrouter.is_admin()));
create policy servers_edit on public.api_providers
    for all to service_role
    using (true)
    with check (true);

revoke all on table public.api_providers from public, anon, authenticated, service_role;
grant select, insert, update, delete on table public.api_providers to authenticated, service_role;


create table public.api_models (
    id                  uuid primary key default gen_random_uuid(),
    provider_id         uuid not null references public.api_providers (id) on delete cascade,
    model_name          text not null check (btrim(model_name) <> '' and length(model_name) <= 200),
    model_version       text not null check (model_version ~ '^[^[:space:]]+$' and length(model_version) <= 200),
    display_name        text not null check (btrim(display_name) <> '' and length(display_name) <= 200),
    canonical_slug      text check (canonical_slug ~ '^[^[:space:]]+$'),
    is_active           boolean not null default true,
    priority            integer not null default 100,
    cost_per_request    numeric check (cost_per_request >= 0),
    context_length      integer check (context_length > 0),
    max_output_tokens   integer check (max_output_tokens > 0),
    input_defaults      jsonb not null default '{}' check (jsonb_typeof(input_defaults) = 'object'),
    capabilities        jsonb not null default '{}' check (jsonb_typeof(capabilities) = 'object'),
    expected_latency_ms int4range,
    retired_at          timestamptz,
    replaced_by         uuid references public.api_models (id) on delete set null check (replaced_by <> id),
    note                text,
    created_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now(),
    unique (provider_id, model_version)
);

comment on table public.api_models is 'The models that may answer. model_version is the slug on the wire.';
comment on column public.api_models.canonical_slug is 'The dated slug that OpenRouter answers with.';
comment on column public.api_models.cost_per_request is
    'Nominal estimate in USD (price of 1,000 tokens in and 1,000 out). Used only where token counts are missing.';
comment on column public.api_models.input_defaults is 'Parameters of this model; they win over the preset of the use case.';
comment on column public.api_models.capabilities is
    'supported_parameters: text[]; exclusive_parameters: text[][], of which only the first that is set is sent.';
comment on column public.api_models.retired_at is 'When the provider stopped serving it.';
comment on column public.api_models.replaced_by is 'Who answers when a caller still asks for this inactive model by name.';

create index api_models_version_idx on public.api_models (model_version);
create index api_models_replaced_by_idx on public.api_models (replaced_by);


create function openrouter.complete_model()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    new.display_name := coalesce(new.display_name, new.model_name);
    return new;
end
$$;

comment on function openrouter.complete_model() is 'Trigger: fills what the short INSERT of the manual leaves out.';
revoke execute on function openrouter.complete_model() from public, anon, authenticated, service_role;

create trigger _100_complete before insert or update on public.api_models
    for each row execute function openrouter.complete_model();
create trigger _200_touch before update on public.api_models
    for each row execute function openrouter.touch_updated_at();

alter table public.api_models enable row level security;

create policy users_read_active on public.api_models
    for select to authenticated
    using (is_active or (select openrouter.is_admin()));
create policy admins_insert on public.api_models
    for insert to authenticated
    with check ((select openrouter.is_admin()));
create policy admins_update on public.api_models
    for update to authenticated
    using ((select openrouter.is_admin()))
    with check ((select openrouter.is_admin()));
create policy admins_delete on public.api_models
    for delete to authenticated
    using ((select openrouter.is_admin()));
create policy servers_edit on public.api_models
    for all to service_role
    using (true)
    with check (true);

revoke all on table public.api_models from public, anon, authenticated, service_role;
grant select, insert, update, delete on table public.api_models to authenticated, service_role;


-- A price is a fact about a time. A new price is a new row; the past is never edited.
create table public.api_model_prices (
    model_id               uuid not null references public.api_models (id) on delete cascade,
    valid_from             timestamptz not null default now(),
    -- The bound refuses a price per 1,000 tokens typed as a price per token.
    input_per_token        numeric check (input_per_token between 0 and 0.001),
    output_per_token       numeric check (output_per_token between 0 and 0.001),
    cached_input_per_token numeric check (cached_input_per_token between 0 and 0.001),
    cache_write_per_token  numeric check (cache_write_per_token between 0 and 0.001),
    per_request            numeric check (per_request between 0 and 10),
    long_context           jsonb not null default '[]' check (jsonb_typeof(long_context) = 'array'),
    source                 text not null default 'manual' check (source in ('seed', 'sync', 'manual')),
    note                   text,
    created_at             timestamptz not null default now(),
    primary key (model_id, valid_from)
);

comment on table public.api_model_prices is 'Dated prices in USD per token. Null means unknown, never free.';
comment on column public.api_model_prices.long_context is
    'Prices above a prompt size: [{"min_prompt_tokens": 100000, "input_per_token": …, "output_per_token": …}].';


create function openrouter.keep_price()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    raise exception using
        errcode = 'PT409',
        message = 'A price is never edited in place: insert a new row with a later valid_from',
        hint = 'CONFLICT';
end
$$;

comment on function openrouter.keep_price() is 'Trigger: refuses to change a price that may already have been charged.';
revoke execute on function openrouter.keep_price() from public, anon, authenticated, service_role;

create trigger _100_keep before update on public.api_model_prices
    for each row execute function openrouter.keep_price();

alter table public.api_model_prices enable row level security;

create policy users_read on public.api_model_prices
    for select to authenticated
    using (
        (select openrouter.is_admin())
        or exists (select from public.api_models m where m.id = model_id and m.is_active)
    );
create policy admins_insert on public.api_model_prices
    for insert to authenticated
    with check ((select openrouter.is_admin()));
create policy servers_read on public.api_model_prices
    for select to service_role
    using (true);
create policy servers_insert on public.api_model_prices
    for insert to service_role
    with check (true);

revoke all on table public.api_model_prices from public, anon, authenticated, service_role;
grant select, insert on table public.api_model_prices to authenticated, service_role;


create table public.use_case_presets (
    use_case             text primary key check (use_case ~ '^[a-z][a-z0-9_]{1,62}$'),
    display_name         text not null check (btrim(display_name) <> ''),
    temperature          numeric check (temperature between 0 and 2),
    top_p                numeric check (top_p between 0 and 1),
    max_tokens           integer check (max_tokens between 1 and 200000),
    system_prompt        text check (length(system_prompt) <= 20000),
    slow_response_ms     integer not null default 30000 check (slow_response_ms > 0),
    short_response_chars integer not null default 50 check (short_response_chars >= 0),
    is_active            boolean not null default true,
    created_at           timestamptz not null default now(),
    updated_at           timestamptz not null default now()
);

comment on table public.use_case_presets is 'What a use case asks for unless the request or the model row says otherwise.';
comment on column public.use_case_presets.system_prompt is
    'Template: ${character}, ${scenario}, ${genre}, ${content_type} are filled in by the door. Null: no system message is added.';
comment on column public.use_case_presets.slow_response_ms is 'A reply slower than this is flagged.';
comment on column public.use_case_presets.short_response_chars is 'A reply shorter than this is flagged.';

create trigger _200_touch before update on public.use_case_presets
    for each row execute function openrouter.touch_updated_at();

alter table public.use_case_presets enable row level security;

create policy admins_edit on public.use_case_presets
    for all to authenticated
    using ((select openrouter.is_admin()))
    with check ((select openrouter.is_admin()));
create policy servers_edit on public.use_case_presets
    for all to service_role
    using (true)
    with check (true);

revoke all on table public.use_case_presets from public, anon, authenticated, service_role;
grant select, insert, update, delete on table public.use_case_presets to authenticated, service_role;


create table public.use_case_models (
    use_case   text not null references public.use_case_presets (use_case) on update cascade on delete cascade,
    model_id   uuid not null references public.api_models (id) on delete cascade,
    rank       integer not null default 100 check (rank >= 0),
    weight     numeric not null default 1 check (weight >= 0),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (use_case, model_id)
);

comment on table public.use_case_models is 'What answers what. Lower rank is asked first; equal ranks are drawn by weight.';

create index use_case_models_model_idx on public.use_case_models (model_id);

create trigger _200_touch before update on public.use_case_models
    for each row execute function openrouter.touch_updated_at();

alter table public.use_case_models enable row level security;

create policy users_read on public.use_case_models
    for select to authenticated
    using (true);
create policy admins_insert on public.use_case_models
    for insert to authenticated
    with check ((select openrouter.is_admin()));
create policy admins_update on public.use_case_models
    for update to authenticated
    using ((select openrouter.is_admin()))
    with check ((select openrouter.is_admin()));
create policy admins_delete on public.use_case_models
    for delete to authenticated
    using ((select openrouter.is_admin()));
create policy servers_edit on public.use_case_models
    for all to service_role
    using (true)
    with check (true);

revoke all on table public.use_case_models from public, anon, authenticated, service_role;
grant select, insert, update, delete on table public.use_case_models to authenticated, service_role;

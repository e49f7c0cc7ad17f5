-- What a model picker needs. Open to everybody: it shows active models only and no secret.

create or replace function public.get_models()
    returns jsonb
    language sql
    stable
    security definer
    set search_path = ''
as $$
    with live as (
        select m.*, p.name as provider_name
          from public.api_models m
          join public.api_providers p on p.id = m.provider_id
         where m.is_active and p.is_active
    ),
    uses as (
        select u.model_id,
               u.use_case,
               row_number() over (partition by u.use_case order by u.rank, live.priority, live.model_version) as place
          from public.use_case_models u
          join public.use_case_presets s on s.use_case = u.use_case and s.is_active
          join live on live.id = u.model_id
    ),
    recent as (
        -- What the last hour says of a model; fewer than five attempts say nothing.
        select a.model_id,
               count(*) as attempts,
               count(*) filter (where a.code is null) / count(*)::numeric as answered
          from openrouter.completions c
          join openrouter.completion_attempts a on a.completion_id = c.id
         where c.started_at > now() - interval '1 hour'
         group by a.model_id
    )
    select jsonb_build_object('models', coalesce(jsonb_agg(
        jsonb_build_object(
            'slug', live.model_version,
            'name', live.display_name,
            'provider', live.provider_name,
            'use_cases', coalesce((select jsonb_agg(use_case order by use_case) from uses where model_id = live.id), '[]'),
            'default_for', coalesce(
                (select jsonb_agg(use_case order by use_case) from uses where model_id = live.id and place = 1), '[]'),
            'price_per_million_tokens', jsonb_build_object(
                'input', trim_scale(price.input_per_token * 1000000),
                'output', trim_scale(price.output_per_token * 1000000)),
            'context_length', live.context_length,
            'max_output_tokens', live.max_output_tokens,
            'expected_latency_ms', case when live.expected_latency_ms is not null then jsonb_build_object(
                'min', lower(live.expected_latency_ms), 'max', upper(live.expected_latency_ms) - 1) end,
            'health', case
                when coalesce(recent.attempts, 0) < 5 then 'unknown'
                when recent.answered >= 0.9 then 'healthy'
                when recent.answered >= 0.5 then 'degraded'
                else 'failing'
            end
        )
        order by live.priority, live.display_name
    ), '[]'))
      from live
      left join recent on recent.model_id = live.id
      left join lateral (
            select input_per_token, output_per_token
              from public.api_model_prices
             where model_id = live.id and valid_from <= now()
             order by valid_from desc
             limit 1
           ) as price on true
$$;

comment on function public.get_models() is
    'Active models: slug, name, use cases, USD per million tokens (null: unknown), context, health.';
revoke execute on function public.get_models() from public, anon, authenticated;
grant execute on function public.get_models() to anon, authenticated, service_role;

-- What a model picker needs. Open to everybody: it shows active models only and no secret.

create or replace function public.get_models()
    returns jsonb
    language sql
    stable
    security definer
    set search_path = ''
as $$
    with live as (
        select m.*, p.name as provider_name, m.capabilities -> 'supported_parameters' as takes,
               p.provider_type = 'chat_worker' and p.base_url is null as needs_worker_url
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
    typical as materialized (
        select s.use_case, message.input_tokens, message.output_tokens
          from public.use_case_presets s, openrouter.typical_message(s.use_case) as message
         where s.is_active
    ),
    recent as materialized (
        select r.model_id, r.health from openrouter.recent_health() as r
    )
    select jsonb_build_object('models', coalesce(jsonb_agg(
        jsonb_build_object(
            'slug', live.model_version,
            'name', live.display_name,
            'provider', live.provider_name,
            -- Only the deployment knows whether it has one: the doors leave the model out where it has none.
            'needs_worker_url', live.needs_worker_url,
            'use_cases', coalesce((select jsonb_agg(use_case order by use_case) from uses where model_id = live.id), '[]'),
            'default_for', coalesce(
                (select jsonb_agg(use_case order by use_case) from uses where model_id = live.id and place = 1), '[]'),
            'price_per_million_tokens', jsonb_build_object(
                'input', trim_scale(price.input_per_token * 1000000),
                'output', trim_scale(price.output_per_token * 1000000)),
            'typical_cost_usd', (
                select coalesce(jsonb_object_agg(
                           typical.use_case,
                           openrouter.computed_cost(
                               live.id, now(), typical.input_tokens, typical.output_tokens, 0, 0)), '{}')
                  from typical),
            'context_length', live.context_length,
            'max_output_tokens', live.max_output_tokens,
            'expected_latency_ms', case when live.expected_latency_ms is not null then jsonb_build_object(
                'min', lower(live.expected_latency_ms), 'max', upper(live.expected_latency_ms) - 1) end,
            -- Null where nobody said what the model takes.
            'capabilities', jsonb_build_object(
                'tools', live.takes ? 'tools',
                'json', live.takes ?| array['response_format', 'structured_outputs'],
                'vision', live.capabilities -> 'input_modalities' ? 'image',
                'sampling', live.takes ?| array['temperature', 'top_p', 'top_k', 'min_p']),
            'retired', coalesce(live.retired_at <= now(), false),
            'health', coalesce(recent.health, 'unknown')
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
    'Active models: slug, name, use cases, USD per million tokens and per typical message of each use case '
    '(null: unknown), context, capabilities, health.';
revoke execute on function public.get_models() from public, anon, authenticated;
grant execute on function public.get_models() to anon, authenticated, service_role;

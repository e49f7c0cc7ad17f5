-- Models side by side over the last 30 days: one row per requested model, in the order of the request.

create or replace function public.compare_openrouter_models(models text[])
    returns jsonb
    language plpgsql
    stable
    security definer
    set search_path = ''
as $$
begin
    perform openrouter.require_admin();
    if coalesce(cardinality(models), 0) not between 1 and 50 or array_position(models, null) is not null then
        raise exception using
            errcode = 'PT400',
            message = 'models must name between 1 and 50 models',
            detail = 'models',
            hint = 'VALIDATION_ERROR';
    end if;

    return (
        select jsonb_agg(
                   jsonb_build_object(
                       'model', wanted.model,
                       'display_name', known.display_name,
                       'is_active', known.is_active,
                       'requests', coalesce(figures.requests, 0),
                       'successes', coalesce(figures.successes, 0),
                       'errors', coalesce(figures.errors, 0),
                       'success_rate', round(figures.successes / nullif(figures.requests, 0)::numeric, 4),
                       'input_tokens', coalesce(figures.input_tokens, 0),
                       'output_tokens', coalesce(figures.output_tokens, 0),
                       'total_tokens', coalesce(figures.total_tokens, 0),
                       'cost_usd', case when coalesce(figures.requests, 0) = 0 then 0 else figures.cost_usd end,
                       'avg_cost_usd', figures.avg_cost_usd,
                       'unpriced_requests', coalesce(figures.unpriced_requests, 0),
                       'avg_response_time_ms', figures.avg_response_time_ms,
                       'p50_ms', figures.p50_ms,
                       'p95_ms', figures.p95_ms,
                       'p99_ms', figures.p99_ms,
                       'p50_first_token_ms', figures.p50_first_token_ms,
                       'fallbacks', coalesce(figures.fallbacks, 0),
                       'quality_issues', coalesce(figures.quality_issues, 0),
                       'expected_latency_ms', case when known.expected_latency_ms is not null then jsonb_build_object(
                           'min', lower(known.expected_latency_ms), 'max', upper(known.expected_latency_ms) - 1) end
                   )
                   order by wanted.position
               )
          from unnest(compare_openrouter_models.models) with ordinality as wanted (model, position)
          left join lateral (
                select m.display_name, m.is_active, m.expected_latency_ms
                  from public.api_models m
                 where m.model_version = wanted.model
                 order by m.is_active desc, m.priority
                 limit 1
               ) as known on true
          left join lateral (
                select count(*) as requests,
                       count(*) filter (where c.outcome = 'complete') as successes,
                       count(*) filter (where c.outcome = 'failed') as errors,
                       sum(c.input_tokens) as input_tokens,
                       sum(c.output_tokens) as output_tokens,
                       sum(c.total_tokens) as total_tokens,
                       sum(c.cost_usd) as cost_usd,
                       round(avg(c.cost_usd), 10) as avg_cost_usd,
                       count(*) filter (where c.cost_usd is null) as unpriced_requests,
                       round(avg(c.response_time_ms)) as avg_response_time_ms,
                       percentile_disc(0.50) within group (order by c.response_time_ms) as p50_ms,
                       percentile_disc(0.95) within group (order by c.response_time_ms) as p95_ms,
                       percentile_disc(0.99) within group (order by c.response_time_ms) as p99_ms,
                       percentile_disc(0.50) within group (order by c.first_token_ms) as p50_first_token_ms,
                       count(*) filter (where c.used_fallback) as fallbacks,
                       sum((select count(*) from openrouter.quality_issues q where q.completion_id = c.id))
                           as quality_issues
                  from openrouter.completions c
                 where c.model = wanted.model
                   and c.started_at >= now() - interval '30 days'
               ) as figures on true
    );
end
$$;

comment on function public.compare_openrouter_models(text[]) is
    'One row per requested model over the last 30 days, zeros when it has no traffic. Admins and servers only.';
revoke execute on function public.compare_openrouter_models(text[]) from public, anon, authenticated;
grant execute on function public.compare_openrouter_models(text[]) to authenticated, service_role;

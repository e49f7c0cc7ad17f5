-- The one shape of usage statistics: for everybody (admins) or for one user.

create or replace function openrouter.usage_report(timeframe text, only_user uuid)
    returns jsonb
    language sql
    stable
    set search_path = ''
as $$
    with bounds as materialized (
        select openrouter.timeframe_start(usage_report.timeframe) as starts, now() as ends
    ),
    chosen as materialized (
        select c.*,
               (c.started_at at time zone 'utc')::date as day,
               (select count(*) from openrouter.quality_issues q where q.completion_id = c.id) as issues
          from openrouter.completions c, bounds
         where c.started_at >= bounds.starts
           and (usage_report.only_user is null or c.user_id = usage_report.only_user)
    ),
    grouped as (
        select grouping(model, use_case, day) as level,
               model,
               use_case,
               day,
               count(*) as requests,
               jsonb_build_object(
                   'requests', count(*),
                   'successes', count(*) filter (where outcome = 'complete'),
                   'errors', count(*) filter (where outcome = 'failed'),
                   'success_rate', round(count(*) filter (where outcome = 'complete') / nullif(count(*), 0)::numeric, 4),
                   'input_tokens', coalesce(sum(input_tokens), 0),
                   'output_tokens', coalesce(sum(output_tokens), 0),
                   'total_tokens', coalesce(sum(total_tokens), 0),
                   -- No request costs nothing; only unpriced requests cost an unknown amount.
                   'cost_usd', case when count(*) = 0 then 0 else sum(cost_usd) end,
                   'unpriced_requests', count(*) filter (where cost_usd is null),
                   'avg_response_time_ms', round(avg(response_time_ms)),
                   'p50_ms', percentile_disc(0.50) within group (order by response_time_ms),
                   'p95_ms', percentile_disc(0.95) within group (order by response_time_ms),
                   'p99_ms', percentile_disc(0.99) within group (order by response_time_ms),
                   'p50_first_token_ms', percentile_disc(0.50) within group (order by first_token_ms),
                   'fallbacks', count(*) filter (where used_fallback),
                   'quality_issues', coalesce(sum(issues), 0)
               ) as figures
          from chosen
         group by grouping sets ((), (model), (use_case), (day))
    )
    select jsonb_build_object(
        'timeframe', usage_report.timeframe,
        'from', case when isfinite(bounds.starts) then bounds.starts
                     else (select min(started_at) from chosen) end,
        'to', bounds.ends,
        'totals', (select figures from grouped where level = 7),
        'by_model', coalesce(
            (select jsonb_agg(jsonb_build_object('model', model) || figures order by requests desc, model)
               from grouped where level = 3), '[]'),
        'by_use_case', coalesce(
            (select jsonb_agg(jsonb_build_object('use_case', use_case) || figures order by requests desc, use_case)
               from grouped where level = 5), '[]'),
        'by_day', coalesce(
            (select jsonb_agg(jsonb_build_object('day', day) || figures order by day)
               from grouped where level = 6), '[]'),
        'errors_by_code', coalesce(
            (select jsonb_agg(jsonb_build_object('code', error_code, 'requests', requests) order by requests desc, error_code)
               from (select error_code, count(*) as requests
                       from chosen where error_code is not null group by error_code) as codes), '[]')
    )
    from bounds
$$;

comment on function openrouter.usage_report(text, uuid) is
    'Usage within a timeframe, of one user or (null) of everybody. Days are UTC; percentiles are exact.';
revoke execute on function openrouter.usage_report(text, uuid) from public, anon, authenticated, service_role;

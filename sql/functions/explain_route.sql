-- Which model should answer a use case, and why not the others. It decides nothing: the plan of a request does.
-- Without a preference the answer is the first live candidate of the plan.

create or replace function public.explain_route(
    use_case text,
    max_cost_usd numeric default null,
    min_quality numeric default null,
    prefer text default null
)
    returns jsonb
    language plpgsql
    stable
    security definer
    set search_path = ''
as $$
declare
    -- A model starts as if 18 of 20 replies had been without a flag; every reply of its own moves it from there.
    c_prior_replies constant numeric := 20;
    c_prior_clean   constant numeric := 18;
    v_preset        public.use_case_presets;
    v_typical       record;
    v_last_resort   uuid;
    v_candidates    jsonb;
    v_chosen        jsonb;
    v_bounds        text;
begin
    select p.* into v_preset
      from public.use_case_presets p
     where p.use_case = explain_route.use_case and p.is_active;
    if not found then
        raise exception using
            errcode = 'PT400', message = openrouter.no_such_use_case(), detail = 'use_case', hint = 'VALIDATION_ERROR';
    end if;
    -- NaN is greater than every number, so it is refused with them.
    if max_cost_usd < 0 or max_cost_usd > 1000000 then
        raise exception using
            errcode = 'PT400', message = 'max_cost_usd must be between 0 and 1000000 USD', detail = 'max_cost_usd',
            hint = 'VALIDATION_ERROR';
    end if;
    if min_quality < 0 or min_quality > 1 then
        raise exception using
            errcode = 'PT400', message = 'min_quality must be between 0 and 1', detail = 'min_quality',
            hint = 'VALIDATION_ERROR';
    end if;
    if prefer not in ('cost', 'quality', 'latency') then
        raise exception using
            errcode = 'PT400', message = 'prefer must be one of cost, quality, latency', detail = 'prefer',
            hint = 'VALIDATION_ERROR';
    end if;

    select t.* into v_typical from openrouter.typical_message(v_preset.use_case) t;

    if not exists (
        select
          from public.use_case_models u
          join public.api_models m on m.id = u.model_id and m.is_active
          join public.api_providers p on p.id = m.provider_id and p.is_active
         where u.use_case = v_preset.use_case
    ) then
        v_last_resort := openrouter.resolve_model(
            (select s.value #>> '{}' from openrouter.settings s where s.key = 'default_model'), false);
    end if;

    with recent as materialized (
        select r.model_id, r.health from openrouter.recent_health() as r
    ),
    listed as (
        select u.model_id, u.rank, u.weight
          from public.use_case_models u
         where u.use_case = v_preset.use_case
        union all
        select v_last_resort, null, null
         where v_last_resort is not null
    ),
    figured as (
        select m.id,
               m.model_version as model,
               m.display_name as name,
               p.name as provider,
               m.priority,
               listed.rank,
               listed.weight,
               m.is_active,
               p.is_active as provider_is_active,
               m.retired_at <= now() as is_retired,
               price.input_per_token,
               price.output_per_token,
               openrouter.computed_cost(
                   m.id, now(), v_typical.input_tokens, v_typical.output_tokens, 0, 0) as cost,
               coalesce(measured.p50_ms, expected.latency_ms) as latency_ms,
               case
                   when measured.p50_ms is not null then 'measured'
                   when expected.latency_ms is not null then 'expected'
               end as latency_source,
               trim_scale(
                   round((c_prior_clean + measured.clean) / (c_prior_replies + measured.replies), 4)) as quality,
               measured.replies,
               coalesce(recent.health, 'unknown') as health
          from listed
          join public.api_models m on m.id = listed.model_id
          join public.api_providers p on p.id = m.provider_id
          left join recent on recent.model_id = m.id
          cross join lateral (
                -- The middle of what its row says; null where the range is open.
                select round((lower(m.expected_latency_ms) + upper(m.expected_latency_ms) - 1) / 2.0) as latency_ms
               ) as expected
          left join lateral (
                select prices.input_per_token, prices.output_per_token
                  from public.api_model_prices prices
                 where prices.model_id = m.id and prices.valid_from <= now()
                 order by prices.valid_from desc
                 limit 1
               ) as price on true
          cross join lateral (
                select count(*) as replies,
                       count(*) filter (where not newest.is_flagged) as clean,
                       percentile_disc(0.5) within group (order by newest.response_time_ms) as p50_ms
                  from (
                    select c.response_time_ms,
                           exists (select from openrouter.quality_issues q where q.completion_id = c.id) as is_flagged
                      from openrouter.completions c
                     -- As in typical_message: read from the index of these three, and nothing else.
                     where (c.model_id, c.use_case, c.started_at)
                               > (m.id, v_preset.use_case, now() - interval '30 days')
                       and (c.model_id, c.use_case, c.started_at)
                               <= (m.id, v_preset.use_case, 'infinity'::timestamptz)
                       and c.outcome in ('complete', 'truncated')
                     order by c.model_id desc, c.use_case desc, c.started_at desc
                     limit 200
                  ) as newest
               ) as measured
    ),
    judged as (
        select figured.*,
               case
                   when not is_active and is_retired then 'It is retired'
                   when not is_active then 'It is switched off'
                   when not provider_is_active then 'Its provider is switched off'
                   when max_cost_usd is not null and cost is null then
                       'Its price is unknown, so it cannot be held to max_cost_usd'
                   when cost > max_cost_usd then
                       format('A typical message would cost %s USD, more than max_cost_usd', cost)
                   when quality < min_quality then format('Its quality of %s is below min_quality', quality)
               end as excluded
          from figured
    ),
    scored as (
        select judged.*,
               case when excluded is null then round(
                   case
                       when prefer is not null and health = 'failing' then 0
                       when prefer = 'cost' and cost = 0 then 1
                       when prefer = 'cost' then min(cost) filter (where excluded is null) over () / cost
                       when prefer = 'latency' and latency_ms = 0 then 1
                       when prefer = 'latency' then
                           min(latency_ms) filter (where excluded is null) over () / latency_ms
                       when prefer = 'quality' then quality
                       else 1.0 / row_number() over (
                           order by excluded is not null, rank, weight desc, priority, id)
                   end, 4)
               end as score,
               row_number() over (
                   order by excluded is not null,
                            -- The plan asks a failing model in its turn; who prefers something is not sent there first.
                            prefer is not null and health = 'failing',
                            case prefer when 'cost' then cost when 'latency' then latency_ms when 'quality' then -quality end
                                nulls last,
                            rank, weight desc, priority, id) as place
          from judged
    )
    select jsonb_agg(
               jsonb_build_object(
                   'model', model,
                   'name', name,
                   'provider', provider,
                   'rank', rank,
                   'score', score,
                   'excluded', excluded,
                   'price_per_million_tokens', jsonb_build_object(
                       'input', trim_scale(input_per_token * 1000000),
                       'output', trim_scale(output_per_token * 1000000)),
                   'expected_cost_usd', cost,
                   'expected_latency_ms', latency_ms,
                   'latency_source', latency_source,
                   'quality', quality,
                   'replies', replies,
                   'health', health)
               order by place
           )
      into v_candidates
      from scored;

    select value into v_chosen from jsonb_array_elements(v_candidates) where value ->> 'excluded' is null limit 1;

    v_bounds := nullif(concat_ws(
        ' and',
        ' costs at most ' || max_cost_usd || ' USD for a typical message',
        ' has a quality of at least ' || min_quality), '');

    return jsonb_build_object(
        'use_case', v_preset.use_case,
        'prefer', prefer,
        'model', v_chosen ->> 'model',
        'provider', v_chosen ->> 'provider',
        'reason', case
            when v_chosen is null and v_bounds is null then format('No model is active for %s.', v_preset.use_case)
            when v_chosen is null then format('No candidate for %s%s.', v_preset.use_case, v_bounds)
            when v_chosen ->> 'rank' is null then
                format('No model of %s is active, so the model of last resort answers.', v_preset.use_case)
            when prefer = 'cost' and v_chosen ->> 'expected_cost_usd' is not null then
                format('It is the cheapest candidate for %s%s: a typical message costs %s USD.',
                       v_preset.use_case, ' that' || v_bounds, v_chosen ->> 'expected_cost_usd')
            when prefer = 'latency' and v_chosen ->> 'expected_latency_ms' is not null then
                format('It is the quickest candidate for %s%s: %s ms, %s.',
                       v_preset.use_case, ' that' || v_bounds, v_chosen ->> 'expected_latency_ms',
                       v_chosen ->> 'latency_source')
            when prefer = 'quality' then
                format('It has the best quality of the candidates for %s%s: %s.',
                       v_preset.use_case, ' that' || v_bounds, v_chosen ->> 'quality')
            else
                format('It is the first candidate for %s%s in the order that admins set (rank %s%s).',
                       v_preset.use_case, ' that' || v_bounds, v_chosen ->> 'rank',
                       case prefer when 'cost' then '; no price is known'
                                   when 'latency' then '; no latency is known' end)
        end,
        'typical_message', jsonb_build_object(
            'input_tokens', v_typical.input_tokens,
            'output_tokens', v_typical.output_tokens,
            'source', case when v_typical.completions = 0 then 'default' else 'last_30_days' end,
            'completions', v_typical.completions),
        'candidates', coalesce(v_candidates, '[]')
    );
end
$$;

comment on function public.explain_route(text, numeric, numeric, text) is
    'Which model suits a use case: {model, reason, candidates[]}, each candidate with its figures and a score, or why it '
    'is excluded. quality: share of replies without a flag over 30 days, starting from 18 of 20.';
revoke execute on function public.explain_route(text, numeric, numeric, text) from public, anon, authenticated;
grant execute on function public.explain_route(text, numeric, numeric, text) to authenticated, service_role;

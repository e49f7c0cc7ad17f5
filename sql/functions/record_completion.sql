-- One round trip after the model was asked: ledger, attempts and flags in one transaction, once per completion.
-- The cost is decided here, because the prices are here: reported by the provider, else computed from the price
-- of that time, else estimated, else unknown (null).

create or replace function public.record_completion(record jsonb)
    returns jsonb
    language plpgsql
    volatile
    security definer
    set search_path = ''
as $$
declare
    v_id      uuid := (record ->> 'completion_id')::uuid;
    v_started timestamptz := (record ->> 'started_at')::timestamptz;
    v_answer  jsonb;
begin
    -- The row comes first: a second writer of the same completion waits here, then finds it and changes nothing.
    insert into openrouter.completions (
        id, request_id, user_id, caller, use_case, requested_model, provider, model_id, model, upstream_model,
        streamed, outcome, finish_reason, error_code, cost_source, response_time_ms, first_token_ms, used_fallback,
        attempt_count, params, prompt_chars, prompt_sha256, reply_chars, started_at
    )
    values (
        v_id,
        record ->> 'request_id',
        (record ->> 'user_id')::uuid,
        record ->> 'caller',
        record ->> 'use_case',
        record ->> 'requested_model',
        record ->> 'provider',
        -- The row may have been deleted while the model was speaking.
        (select m.id from public.api_models m where m.id = (record ->> 'model_id')::uuid),
        record ->> 'model',
        record ->> 'upstream_model',
        coalesce((record ->> 'streamed')::boolean, false),
        record ->> 'outcome',
        record ->> 'finish_reason',
        record ->> 'error_code',
        'unknown',
        (record ->> 'response_time_ms')::integer,
        (record ->> 'first_token_ms')::integer,
        coalesce((record ->> 'used_fallback')::boolean, false),
        jsonb_array_length(coalesce(record -> 'attempts', '[]')),
        coalesce(record -> 'params', '{}'),
        (record ->> 'prompt_chars')::integer,
        record ->> 'prompt_sha256',
        (record ->> 'reply_chars')::integer,
        v_started
    )
    on conflict (id) do nothing;

    if not found then
        select jsonb_build_object('recorded', false, 'cost_usd', c.cost_usd, 'cost_source', c.cost_source)
          into v_answer
          from openrouter.completions c
         where c.id = v_id;
        return v_answer;
    end if;

    insert into openrouter.completion_attempts (
        completion_id, attempt, provider, model_id, model, upstream_model, upstream_provider, generation_id, status,
        code, duration_ms, first_token_ms, input_tokens, output_tokens, cached_tokens, cache_write_tokens,
        reasoning_tokens, provider_cost_usd, computed_cost_usd, cost_usd, cost_source
    )
    select v_id, a.attempt, a.provider, a.model_id, a.model, a.upstream_model, a.upstream_provider, a.generation_id,
           a.status, a.code, a.duration_ms, a.first_token_ms, a.input_tokens, a.output_tokens, a.cached_tokens,
           a.cache_write_tokens, a.reasoning_tokens, a.reported, a.computed,
           case a.source
               when 'provider' then a.reported
               when 'computed' then a.computed
               when 'estimated' then coalesce(a.computed, a.nominal)
               when 'none' then 0
           end,
           a.source
      from (
        select said.*,
               priced.computed,
               priced.nominal,
               case
                   when said.reported is not null and not said.estimated then 'provider'
                   when said.billing = 'none' then 'none'
                   when said.billing = 'unknown' and priced.computed is null then 'unknown'
                   when priced.computed is not null and not said.estimated then 'computed'
                   when coalesce(priced.computed, priced.nominal) is not null then 'estimated'
                   else 'unknown'
               end as source
          from (
            select position::integer as attempt,
                   value ->> 'provider' as provider,
                   (select m.id from public.api_models m where m.id = (value ->> 'model_id')::uuid) as model_id,
                   value ->> 'model' as model,
                   value ->> 'upstream_model' as upstream_model,
                   value ->> 'upstream_provider' as upstream_provider,
                   value ->> 'generation_id' as generation_id,
                   (value ->> 'status')::integer as status,
                   value ->> 'code' as code,
                   (value ->> 'duration_ms')::integer as duration_ms,
                   (value ->> 'first_token_ms')::integer as first_token_ms,
                   (value ->> 'input_tokens')::bigint as input_tokens,
                   (value ->> 'output_tokens')::bigint as output_tokens,
                   (value ->> 'cached_tokens')::bigint as cached_tokens,
                   (value ->> 'cache_write_tokens')::bigint as cache_write_tokens,
                   (value ->> 'reasoning_tokens')::bigint as reasoning_tokens,
                   (value ->> 'cost_usd')::numeric as reported,
                   coalesce((value ->> 'estimated')::boolean, false) as estimated,
                   -- tokens: it used tokens; none: it was not charged; unknown: it may have been charged.
                   coalesce(value ->> 'billing', 'none') as billing
              from jsonb_array_elements(coalesce(record -> 'attempts', '[]')) with ordinality as said (value, position)
          ) as said
          left join lateral (
            select openrouter.computed_cost(
                       m.id, v_started, said.input_tokens, said.output_tokens, said.cached_tokens,
                       said.cache_write_tokens) as computed,
                   case when said.input_tokens is null then m.cost_per_request end as nominal
              from public.api_models m
              -- A router's slug is answered by another model: the one that served has the price.
             where m.id = coalesce(
                       (select served.id
                          from public.api_models served
                          join public.api_models asked on asked.id = said.model_id
                         where served.provider_id = asked.provider_id
                           and said.upstream_model in (served.model_version, served.canonical_slug)
                         order by (served.model_version = said.upstream_model) desc
                         limit 1),
                       said.model_id)
          ) as priced on true
      ) as a;

    v_answer := openrouter.settle_costs(v_id);

    insert into openrouter.quality_issues (completion_id, code, detail)
    select v_id, value ->> 'code', value ->> 'detail'
      from jsonb_array_elements(coalesce(record -> 'quality_issues', '[]'))
    on conflict do nothing;

    return jsonb_build_object('recorded', true) || v_answer;
end
$$;

comment on function public.record_completion(jsonb) is
    'Writes a completion with its attempts and flags, exactly once; answers {recorded, cost_usd, cost_source}.';
revoke execute on function public.record_completion(jsonb) from public, anon, authenticated;
grant execute on function public.record_completion(jsonb) to service_role;

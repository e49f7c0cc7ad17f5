-- The one rule by which attempts add up to a completion: what it cost, how that is known, what it used.

create or replace function openrouter.settle_costs(completion uuid)
    returns jsonb
    language plpgsql
    volatile
    set search_path = ''
as $$
declare
    v_cost     numeric;
    v_source   text;
    v_unpriced integer;
    v_tokens   record;
begin
    select sum(a.cost_usd) filter (where a.cost_source <> 'none'),
           case
               when count(*) filter (where a.cost_source in ('provider', 'computed', 'estimated')) = 0
                    and count(*) filter (where a.cost_source = 'unknown') > 0 then 'unknown'
               when count(*) filter (where a.cost_source = 'estimated') > 0 then 'estimated'
               when count(*) filter (where a.cost_source = 'computed') > 0 then 'computed'
               else 'provider'
           end,
           count(*) filter (where a.cost_source = 'unknown')
      into v_cost, v_source, v_unpriced
      from openrouter.completion_attempts a
     where a.completion_id = completion;

    -- The answer's own price decides: an answer of unknown price is not made known by a retry that was priced.
    if exists (
        select from openrouter.completion_attempts a
         where a.completion_id = completion and a.code is null and a.cost_source = 'unknown'
    ) then
        v_cost := null;
        v_source := 'unknown';
    elsif v_source <> 'unknown' then
        -- Only attempts that the provider charged nothing for: zero is known, not guessed.
        v_cost := coalesce(v_cost, 0);
    end if;

    -- What all attempts used together: the cost is theirs too.
    select sum(a.input_tokens) as input, sum(a.output_tokens) as output, sum(a.cached_tokens) as cached,
           sum(a.reasoning_tokens) as reasoning
      into v_tokens
      from openrouter.completion_attempts a
     where a.completion_id = completion;

    update openrouter.completions
       set cost_usd = v_cost,
           cost_source = v_source,
           unpriced_attempts = v_unpriced,
           input_tokens = v_tokens.input,
           output_tokens = v_tokens.output,
           total_tokens = v_tokens.input + v_tokens.output,
           cached_tokens = v_tokens.cached,
           reasoning_tokens = v_tokens.reasoning
     where id = completion;

    return jsonb_build_object('cost_usd', v_cost, 'cost_source', v_source);
end
$$;

comment on function openrouter.settle_costs(uuid) is
    'Adds the attempts of a completion up into its row; answers {cost_usd, cost_source}. The caller holds the row.';
revoke execute on function openrouter.settle_costs(uuid) from public, anon, authenticated, service_role;

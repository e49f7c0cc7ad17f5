-- What the provider's books say of a generation takes the place of our estimate. Told twice, it changes nothing;
-- what the provider said in its answer stands.

create or replace function public.reconcile_generation(generation jsonb)
    returns boolean
    language plpgsql
    volatile
    security definer
    set search_path = ''
as $$
declare
    v_cost    numeric := (generation ->> 'cost_usd')::numeric;
    v_attempt record;
begin
    -- No cost, no news. NaN is greater than infinity and fails here too.
    if not coalesce(v_cost >= 0 and v_cost < 'infinity', false) then
        return false;
    end if;

    -- One generation is paid once: should two attempts bear its id, only one of them carries the cost.
    select a.completion_id, a.attempt
      into v_attempt
      from openrouter.completion_attempts a
     where a.generation_id = generation ->> 'generation_id'
     order by (a.cost_source = 'provider') desc, a.completion_id, a.attempt
     limit 1;
    if not found then
        return false;
    end if;

    -- The completion first: news of two of its attempts at once must not add up past each other.
    perform from openrouter.completions c where c.id = v_attempt.completion_id for update;

    update openrouter.completion_attempts a
       set estimated_cost_usd = a.cost_usd,
           provider_cost_usd = v_cost,
           cost_usd = v_cost,
           cost_source = 'provider',
           input_tokens = coalesce((generation ->> 'input_tokens')::bigint, a.input_tokens),
           output_tokens = coalesce((generation ->> 'output_tokens')::bigint, a.output_tokens),
           cached_tokens = coalesce((generation ->> 'cached_tokens')::bigint, a.cached_tokens),
           cache_write_tokens = coalesce((generation ->> 'cache_write_tokens')::bigint, a.cache_write_tokens),
           reasoning_tokens = coalesce((generation ->> 'reasoning_tokens')::bigint, a.reasoning_tokens),
           reconciled_at = now(),
           reconciled_from = generation ->> 'source',
           next_check_at = null
     where a.completion_id = v_attempt.completion_id
       and a.attempt = v_attempt.attempt
       and a.cost_source <> 'provider';
    if not found then
        return false;
    end if;

    perform openrouter.settle_costs(v_attempt.completion_id);
    return true;
end
$$;

comment on function public.reconcile_generation(jsonb) is
    'Takes over {generation_id, cost_usd, tokens, source} from the provider''s books; answers whether that changed a row.';
revoke execute on function public.reconcile_generation(jsonb) from public, anon, authenticated;
grant execute on function public.reconcile_generation(jsonb) to service_role;

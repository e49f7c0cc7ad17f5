-- Cost from the price that was valid at the time: USD, exact, null when the price is unknown.

create or replace function openrouter.computed_cost(
    priced_model uuid,
    priced_at timestamptz,
    input_tokens bigint,
    output_tokens bigint,
    cached_tokens bigint,
    cache_write_tokens bigint
)
    returns numeric
    language sql
    stable
    set search_path = ''
begin atomic
    with price as (
        select prices.*
          from public.api_model_prices as prices
         where prices.model_id = priced_model
           and prices.valid_from <= priced_at
         order by prices.valid_from desc
         limit 1
    ),
    tier as (
        -- The dearest step of the long-context ladder that this prompt has climbed.
        select (step ->> 'input_per_token')::numeric as input_per_token,
               (step ->> 'output_per_token')::numeric as output_per_token
          from price, jsonb_array_elements(price.long_context) as step
         where input_tokens > (step ->> 'min_prompt_tokens')::bigint
         order by (step ->> 'min_prompt_tokens')::bigint desc
         limit 1
    ),
    rate as (
        select coalesce(tier.input_per_token, price.input_per_token) as input,
               coalesce(tier.output_per_token, price.output_per_token) as output,
               coalesce(price.cached_input_per_token, tier.input_per_token, price.input_per_token) as cached,
               coalesce(price.cache_write_per_token, tier.input_per_token, price.input_per_token) as cache_write,
               coalesce(price.per_request, 0) as per_request
          from price left join tier on true
    )
    -- Input tokens include the cached ones and the ones written to the cache.
    select trim_scale(
               greatest(input_tokens - coalesce(cached_tokens, 0) - coalesce(cache_write_tokens, 0), 0) * rate.input
               + coalesce(cached_tokens, 0) * rate.cached
               + coalesce(cache_write_tokens, 0) * rate.cache_write
               + output_tokens * rate.output
               + rate.per_request
           )
      from rate;
end;

comment on function openrouter.computed_cost(uuid, timestamptz, bigint, bigint, bigint, bigint) is
    'USD for these tokens at the price of that time; null when the model or a needed price is unknown.';
revoke execute on function openrouter.computed_cost(uuid, timestamptz, bigint, bigint, bigint, bigint)
    from public, anon, authenticated, service_role;

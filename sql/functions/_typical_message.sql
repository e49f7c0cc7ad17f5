-- How long a message of a use case usually is: the unit in which models are compared by price.

create or replace function openrouter.typical_message(wanted_use_case text)
    returns table (input_tokens bigint, output_tokens bigint, completions bigint)
    language sql
    stable
    set search_path = ''
begin atomic
    with newest as (
        select c.input_tokens, c.output_tokens
          from openrouter.completions as c
         -- Compared as pairs, in their order, so that the index of pairs is read and nothing else: an index of times
         -- alone would be read to its end for a use case that nobody asks for.
         where (c.use_case, c.started_at) > (wanted_use_case, now() - interval '30 days')
           and (c.use_case, c.started_at) <= (wanted_use_case, 'infinity'::timestamptz)
           and c.outcome in ('complete', 'truncated')
           and c.input_tokens is not null
           and c.output_tokens is not null
         order by c.use_case desc, c.started_at desc
         limit 200
    ),
    average as (
        select round(avg(newest.input_tokens))::bigint as input_tokens,
               round(avg(newest.output_tokens))::bigint as output_tokens,
               count(*) as completions
          from newest
    )
    select coalesce(average.input_tokens, 500),
           -- Half of what the use case allows, as long as nothing better is known.
           coalesce(
               average.output_tokens,
               (select preset.max_tokens from public.use_case_presets as preset
                 where preset.use_case = wanted_use_case) / 2,
               (select (defaults.value ->> 'max_tokens')::bigint from openrouter.settings as defaults
                 where defaults.key = 'default_params') / 2,
               250),
           average.completions
      from average;
end;

comment on function openrouter.typical_message(text) is
    'Average tokens of the newest 200 completions of a use case within 30 days; '
    'completions = 0 says that it is a default: 500 in, half of the preset''s max_tokens out.';
revoke execute on function openrouter.typical_message(text) from public, anon, authenticated, service_role;

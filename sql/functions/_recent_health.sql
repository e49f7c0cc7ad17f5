-- What the last hour says of the models, read from a bounded number of rows: everybody may ask for it.

create or replace function openrouter.recent_health()
    returns table (model_id uuid, attempts bigint, answered numeric, health text)
    language sql
    stable
    set search_path = ''
begin atomic
    with newest as (
        select c.id
          from openrouter.completions as c
         where c.started_at > now() - interval '1 hour'
         order by c.started_at desc
         limit 2000
    ),
    counted as (
        select a.model_id,
               count(*) as attempts,
               count(*) filter (where a.code is null) / count(*)::numeric as answered
          from newest
          join openrouter.completion_attempts as a on a.completion_id = newest.id
         -- A caller who leaves, or who says too much, tells nothing about the model.
         where a.model_id is not null
           and coalesce(a.code, '') not in ('CANCELLED', 'CONTEXT_TOO_LONG', 'CONTENT_BLOCKED')
         group by a.model_id
    )
    select counted.model_id,
           counted.attempts,
           round(counted.answered, 4),
           case
               when counted.attempts < 5 then 'unknown'
               when counted.answered >= 0.9 then 'healthy'
               when counted.answered >= 0.5 then 'degraded'
               else 'failing'
           end
      from counted;
end;

comment on function openrouter.recent_health() is
    'Share of answered attempts per model over the last hour (its newest 2,000 completions); fewer than five say nothing.';
revoke execute on function openrouter.recent_health() from public, anon, authenticated, service_role;

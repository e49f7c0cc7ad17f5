-- Which bookings are to be asked for now. Handing one out counts as a check, so two sweeps at once never ask twice,
-- and one that died asks again when the next check is due.

create or replace function public.pending_generations(batch integer)
    returns jsonb
    language sql
    volatile
    security definer
    set search_path = ''
begin atomic
    with due as (
        select a.completion_id, a.attempt, a.generation_id, p.name, p.provider_type, p.base_url, p.secret_name
          from openrouter.completion_attempts a
          left join public.api_models m on m.id = a.model_id
          -- Other servers of the same wire keep no books that could be asked.
          left join public.api_providers p
            on p.provider_type = 'openrouter'
           and (p.id = m.provider_id or (m.id is null and lower(p.name) = lower(a.provider)))
         where a.cost_source in ('estimated', 'unknown')
           and a.generation_id is not null
           and a.next_check_at is not null
           and a.next_check_at <= now()
         order by a.next_check_at
         limit greatest(batch, 0)
           for update of a skip locked
    ),
    claimed as (
        update openrouter.completion_attempts a
           set checks = a.checks + 1,
               next_check_at = case
                   -- After 20 s, then twice as long each time up to 10 min: the eleventh check is at 70 min, the last.
                   when due.name is not null and a.checks < 10
                       then now() + least(interval '20 seconds' * 2 ^ (a.checks + 1), interval '10 minutes')
               end
          from due
         where a.completion_id = due.completion_id
           and a.attempt = due.attempt
        returning due.generation_id, due.name, due.provider_type, due.base_url, due.secret_name
    )
    select coalesce(
               jsonb_agg(jsonb_build_object(
                   'generation_id', claimed.generation_id,
                   'provider', claimed.name,
                   'provider_type', claimed.provider_type,
                   'base_url', claimed.base_url,
                   'secret_name', claimed.secret_name)),
               '[]')
      from claimed
     where claimed.name is not null;
end;

comment on function public.pending_generations(integer) is
    'Claims up to batch generations of unsure cost whose check is due: [{generation_id, provider, base_url, …}].';
revoke execute on function public.pending_generations(integer) from public, anon, authenticated;
grant execute on function public.pending_generations(integer) to service_role;

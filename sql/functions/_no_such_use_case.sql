-- The sentence for a use case that does not exist.

create or replace function openrouter.no_such_use_case()
    returns text
    language sql
    stable
    set search_path = ''
begin atomic
    select 'There is no such use case; known are '
           || coalesce(string_agg(preset.use_case, ', ' order by preset.use_case), 'none')
      from public.use_case_presets as preset
     where preset.is_active;
end;

comment on function openrouter.no_such_use_case() is 'Says that a use case is unknown, and which ones are known.';
revoke execute on function openrouter.no_such_use_case() from public, anon, authenticated, service_role;

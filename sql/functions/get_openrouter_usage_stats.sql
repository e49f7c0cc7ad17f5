-- Statistics for admins. The parameter's name is part of the contract (manual, Admin interface).

create or replace function public.get_openrouter_usage_stats(timeframe text default '24h')
    returns jsonb
    language plpgsql
    stable
    security definer
    set search_path = ''
as $$
begin
    perform openrouter.require_admin();
    return openrouter.usage_report(timeframe, null);
end
$$;

comment on function public.get_openrouter_usage_stats(text) is
    'Requests, tokens, cost and latency of everybody within a timeframe. Admins and servers only.';
revoke execute on function public.get_openrouter_usage_stats(text) from public, anon, authenticated;
grant execute on function public.get_openrouter_usage_stats(text) to authenticated, service_role;

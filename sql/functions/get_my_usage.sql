-- What the signed-in user has used: the same JSON as the admin's statistics, of that user alone.

create or replace function public.get_my_usage(timeframe text default '24h')
    returns jsonb
    language plpgsql
    stable
    security definer
    set search_path = ''
as $$
begin
    if auth.uid() is null then
        raise exception using
            errcode = 'PT401',
            message = 'Sign in to see your usage',
            hint = 'UNAUTHENTICATED';
    end if;
    return openrouter.usage_report(timeframe, auth.uid());
end
$$;

comment on function public.get_my_usage(text) is 'The signed-in user''s own usage within a timeframe.';
revoke execute on function public.get_my_usage(text) from public, anon, authenticated;
grant execute on function public.get_my_usage(text) to authenticated, service_role;

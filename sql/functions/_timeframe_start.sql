-- The one place that knows which timeframes exist.

create or replace function openrouter.timeframe_start(timeframe text)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    v_start timestamptz;
begin
    v_start := case timeframe
        when '1h' then now() - interval '1 hour'
        when '24h' then now() - interval '24 hours'
        when 'day' then now() - interval '24 hours'
        when '7d' then now() - interval '7 days'
        when 'week' then now() - interval '7 days'
        when '30d' then now() - interval '30 days'
        when 'month' then now() - interval '30 days'
        when '90d' then now() - interval '90 days'
        when 'all' then '-infinity'::timestamptz
    end;
    if v_start is null then
        raise exception using
            errcode = 'PT400',
            message = 'timeframe must be one of 1h, 24h, 7d, 30d, 90d, all, day, week, month',
            detail = 'timeframe',
            hint = 'VALIDATION_ERROR';
    end if;
    return v_start;
end
$$;

comment on function openrouter.timeframe_start(text) is
    'Start of a timeframe that ends now. -infinity for "all"; raises PT400 for anything unknown.';
revoke execute on function openrouter.timeframe_start(text) from public, anon, authenticated, service_role;

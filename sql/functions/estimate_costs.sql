-- What a message to several models would cost at most, before anything is sent: the prompt as estimated by the caller
-- of this function, and as many tokens out as the request, the model's row, the preset or the default allow.

create or replace function public.estimate_costs(request jsonb)
    returns jsonb
    language plpgsql
    stable
    security definer
    set search_path = ''
as $$
declare
    v_preset   public.use_case_presets;
    v_is_admin boolean := request ->> 'caller' in ('admin', 'service');
    v_limits   jsonb;
begin
    select p.* into v_preset
      from public.use_case_presets p
     where p.use_case = request ->> 'use_case' and p.is_active;
    if not found then
        raise exception using
            errcode = 'PT400',
            message = openrouter.no_such_use_case(),
            detail = 'use_case',
            hint = 'VALIDATION_ERROR';
    end if;

    v_limits := coalesce((select s.value from openrouter.settings s where s.key = 'default_params'), '{}')
        || jsonb_strip_nulls(jsonb_build_object('max_tokens', v_preset.max_tokens));

    return (
        select coalesce(jsonb_agg(
                   jsonb_build_object(
                       'model', wanted.model,
                       'is_known', known.id is not null,
                       'cost_usd', openrouter.computed_cost(
                           known.id,
                           now(),
                           wanted.input_tokens,
                           least(
                               ((v_limits || known.input_defaults || coalesce(request -> 'params', '{}'))
                                   ->> 'max_tokens')::bigint,
                               known.max_output_tokens),
                           0, 0))
                   order by wanted.position
               ), '[]')
          from (
            select value ->> 'model' as model,
                   (value ->> 'input_tokens')::bigint as input_tokens,
                   position
              from jsonb_array_elements(request -> 'models') with ordinality as said (value, position)
          ) as wanted
          left join public.api_models known on known.id = openrouter.resolve_model(wanted.model, v_is_admin)
    );
end
$$;

comment on function public.estimate_costs(jsonb) is
    'For {use_case, caller, params, models: [{model, input_tokens}]}: [{model, is_known, cost_usd}] in that order, the '
    'most that one attempt would cost; null when the model or its price is unknown. For the handlers.';
revoke execute on function public.estimate_costs(jsonb) from public, anon, authenticated;
grant execute on function public.estimate_costs(jsonb) to service_role;

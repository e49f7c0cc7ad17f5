-- One round trip before the model is asked: the preset of the use case and the ordered candidates,
-- or the reason why there is no plan. A reason is an answer, not an exception.

create or replace function openrouter.refusal(code text, message text, field text default null)
    returns jsonb
    language sql
    immutable
    set search_path = ''
return jsonb_build_object('refusal', jsonb_build_object('code', code, 'message', message, 'field', field));

comment on function openrouter.refusal(text, text, text) is 'A plan that says why there is none.';
revoke execute on function openrouter.refusal(text, text, text) from public, anon, authenticated, service_role;


create or replace function openrouter.resolve_model(slug text, allow_inactive boolean)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    v_id       uuid;
    v_usable   boolean;
    v_next     uuid;
begin
    select m.id, m.is_active and p.is_active, m.replaced_by
      into v_id, v_usable, v_next
      from public.api_models m
      join public.api_providers p on p.id = m.provider_id
     where m.model_version = slug or m.canonical_slug = slug
     order by (m.is_active and p.is_active) desc, (m.model_version = slug) desc, p.priority, m.priority, m.id
     limit 1;

    if v_usable or (v_id is not null and allow_inactive) then
        return v_id;
    end if;

    -- A retired name keeps working: its successor answers. Bounded, because admins can tie a knot.
    for v_step in 1..5 loop
        exit when v_next is null;
        select m.id, m.is_active and p.is_active, m.replaced_by
          into v_id, v_usable, v_next
          from public.api_models m
          join public.api_providers p on p.id = m.provider_id
         where m.id = v_next;
        if v_usable then
            return v_id;
        end if;
    end loop;
    return null;
end
$$;

comment on function openrouter.resolve_model(text, boolean) is
    'The model row that answers for a slug: itself, or the live successor of a retired one. Null: none.';
revoke execute on function openrouter.resolve_model(text, boolean) from public, anon, authenticated, service_role;


create or replace function public.plan_completion(request jsonb)
    returns jsonb
    language plpgsql
    -- Volatile: models of equal rank are drawn by weight.
    volatile
    security definer
    set search_path = ''
as $$
declare
    v_preset     public.use_case_presets;
    v_is_admin   boolean := request ->> 'caller' in ('admin', 'service');
    v_slug       text;
    v_id         uuid;
    v_ids        uuid[] := '{}';
    v_named      uuid[];
    v_field      text;
    v_candidates jsonb;
    v_default    jsonb;
begin
    select * into v_preset
      from public.use_case_presets p
     where p.use_case = request ->> 'use_case' and p.is_active;
    if not found then
        return openrouter.refusal(
            'VALIDATION_ERROR',
            'There is no such use case; known are '
                || coalesce((select string_agg(p.use_case, ', ' order by p.use_case)
                               from public.use_case_presets p where p.is_active), 'none'),
            'use_case'
        );
    end if;

    -- What the caller named, in its order.
    for v_slug, v_field in
        select request ->> 'model', 'model' where request ->> 'model' is not null
        union all
        select value #>> '{}', 'models.' || (position - 1)
          from jsonb_array_elements(coalesce(request -> 'models', '[]')) with ordinality as named (value, position)
    loop
        v_id := openrouter.resolve_model(v_slug, v_is_admin);
        if v_id is null then
            return openrouter.refusal('MODEL_NOT_FOUND', 'There is no active model with this slug', v_field);
        end if;
        if not v_id = any (v_ids) then
            v_ids := v_ids || v_id;
        end if;
    end loop;

    v_named := v_ids;

    -- A list of models is the caller's own fallback order; anything less is followed by the use case's.
    if jsonb_array_length(coalesce(request -> 'models', '[]')) = 0 then
        v_ids := v_ids || array(
            select m.id
              from public.use_case_models u
              join public.api_models m on m.id = u.model_id and m.is_active
              join public.api_providers p on p.id = m.provider_id and p.is_active
             where u.use_case = v_preset.use_case
               and not m.id = any (v_ids)
             order by u.rank,
                      case when u.weight > 0 then -ln(1 - random()) / u.weight else 'infinity'::float8 end,
                      m.priority,
                      m.id
        );
    end if;

    if cardinality(v_ids) = 0 then
        v_id := openrouter.resolve_model(
            (select s.value #>> '{}' from openrouter.settings s where s.key = 'default_model'), false);
        v_ids := array_remove(array[v_id], null);
    end if;

    if (request ->> 'fallback_to_chat_worker')::boolean then
        -- Once is enough: a worker that is asked earlier is not asked again.
        v_ids := v_ids || array(
            select m.id
              from public.api_models m
              join public.api_providers p on p.id = m.provider_id
             where p.provider_type = 'chat_worker'
               and p.is_active
               and m.is_active
               and not exists (
                   select from public.api_models asked
                     join public.api_providers by on by.id = asked.provider_id
                    where asked.id = any (v_ids) and by.provider_type = 'chat_worker')
             order by p.priority, m.priority, m.id
             limit 1
        );
    elsif not (request ->> 'fallback_to_chat_worker')::boolean then
        -- Refused as a fallback it stands behind nobody; by name, or ranked first, it is none.
        v_ids := array(
            select wanted.id
              from unnest(v_ids) with ordinality as wanted (id, position)
              join public.api_models m on m.id = wanted.id
              join public.api_providers p on p.id = m.provider_id
             where p.provider_type <> 'chat_worker' or wanted.position = 1 or wanted.id = any (v_named)
             order by wanted.position
        );
    end if;

    if cardinality(v_ids) = 0 then
        return openrouter.refusal('CONFIG_ERROR', 'No model is active for this use case', 'use_case');
    end if;

    select coalesce((select s.value from openrouter.settings s where s.key = 'default_params'), '{}') into v_default;

    select jsonb_agg(
               jsonb_build_object(
                   'provider', p.name,
                   'provider_type', p.provider_type,
                   'base_url', p.base_url,
                   'secret_name', p.secret_name,
                   'model_id', m.id,
                   'model', m.model_version,
                   'context_length', m.context_length,
                   'max_output_tokens', m.max_output_tokens,
                   'supported_parameters', m.capabilities -> 'supported_parameters',
                   'exclusive_parameters', coalesce(m.capabilities -> 'exclusive_parameters', '[]'),
                   -- request > model row > use-case preset > default
                   'params', v_default
                       || jsonb_strip_nulls(jsonb_build_object(
                              'temperature', v_preset.temperature,
                              'top_p', v_preset.top_p,
                              'max_tokens', v_preset.max_tokens))
                       || m.input_defaults
                       || coalesce(request -> 'params', '{}')
               )
               order by wanted.position
           )
      into v_candidates
      from unnest(v_ids) with ordinality as wanted (id, position)
      join public.api_models m on m.id = wanted.id
      join public.api_providers p on p.id = m.provider_id;

    return jsonb_build_object(
        'refusal', null,
        'preset', jsonb_build_object(
            'use_case', v_preset.use_case,
            'system_prompt', v_preset.system_prompt,
            'slow_response_ms', v_preset.slow_response_ms,
            'short_response_chars', v_preset.short_response_chars),
        'candidates', v_candidates
    );
end
$$;

comment on function public.plan_completion(jsonb) is
    'Answers {preset, candidates[]} for a request, or {refusal: {code, message, field}}. For the handlers.';
revoke execute on function public.plan_completion(jsonb) from public, anon, authenticated;
grant execute on function public.plan_completion(jsonb) to service_role;

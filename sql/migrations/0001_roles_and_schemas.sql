-- The roles and the auth schema are Supabase's. They are created only where they are missing,
-- so the same files run on Supabase, on the embedded Postgres and on any other server.

do $roles$
declare
    v_role text;
begin
    foreach v_role in array array['anon', 'authenticated', 'service_role'] loop
        if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
            begin
                execute format('create role %I nologin noinherit', v_role);
            exception
                -- Roles belong to the whole server: another database's migration may have been quicker.
                when duplicate_object or unique_violation then null;
            end;
        end if;
    end loop;
end
$roles$;

do $auth$
begin
    if to_regnamespace('auth') is null then
        create schema auth;
        grant usage on schema auth to anon, authenticated, service_role;
    end if;

    if to_regprocedure('auth.uid()') is null then
        execute $function$
            create function auth.uid()
                returns uuid
                language sql
                stable
                set search_path = ''
            return nullif(
                nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub',
                ''
            )::uuid
        $function$;
        comment on function auth.uid() is 'The signed-in user, from the claims of the verified JWT. Null when nobody is signed in.';
        revoke execute on function auth.uid() from public;
        grant execute on function auth.uid() to anon, authenticated, service_role;
    end if;
end
$auth$;

grant usage on schema public to anon, authenticated, service_role;

-- Private: the schema is not exposed through PostgREST. Its tables are reached through functions only.
create schema if not exists openrouter;

comment on schema openrouter is 'Ledger, health and settings of the chat handlers. Not exposed; reached through functions.';

revoke all on schema openrouter from public;
-- Policies of public tables call openrouter.is_admin() as the querying role.
grant usage on schema openrouter to anon, authenticated, service_role;


create function openrouter.is_admin()
    returns boolean
    language sql
    stable
    set search_path = ''
return coalesce(
    nullif(current_setting('request.jwt.claims', true), '')::jsonb #>> '{app_metadata,role}' = 'admin',
    false
);

comment on function openrouter.is_admin() is
    'Whether the verified JWT says app_metadata.role = admin. user_metadata is writable by users and is not looked at.';
revoke execute on function openrouter.is_admin() from public, anon, authenticated;
grant execute on function openrouter.is_admin() to anon, authenticated, service_role;


create function openrouter.require_admin()
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- SECURITY DEFINER changes current_user but not this setting, so it still names the role that called.
    v_role text := coalesce(current_setting('role', true), 'none');
begin
    if v_role = 'service_role'
       or (v_role = 'none' and pg_catalog.pg_has_role(session_user, 'service_role', 'member'))
       or openrouter.is_admin() then
        return;
    end if;
    raise exception using
        errcode = 'PT403',
        message = 'Only an administrator may do that',
        hint = 'FORBIDDEN';
end
$$;

comment on function openrouter.require_admin() is
    'Raises PT403 unless the caller is an admin user or a server. For use inside SECURITY DEFINER functions.';
revoke execute on function openrouter.require_admin() from public, anon, authenticated, service_role;


create function openrouter.touch_updated_at()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    new.updated_at := pg_catalog.now();
    return new;
end
$$;

comment on function openrouter.touch_updated_at() is 'Trigger: updated_at says when the row last changed.';
revoke execute on function openrouter.touch_updated_at() from public, anon, authenticated, service_role;


-- What an admin may change and no table owns.
create table openrouter.settings (
    key         text primary key check (key ~ '^[a-z][a-z0-9_]{1,62}$'),
    value       jsonb not null,
    description text not null default '',
    updated_at  timestamptz not null default now()
);

comment on table openrouter.settings is 'Named values that admins edit: the model of last resort, the default parameters, …';

create trigger _100_touch before update on openrouter.settings
    for each row execute function openrouter.touch_updated_at();

alter table openrouter.settings enable row level security;
revoke all on table openrouter.settings from public, anon, authenticated, service_role;

-- The chat worker: the app's own language model server, beside OpenRouter. It is ranked for no use case here; it
-- answers when a request sets fallback_to_chat_worker, when it is asked for by name, or when an admin ranks it.
-- Where it is says CHAT_WORKER_URL, unless its row has a base_url. A row that exists is left alone.

insert into public.api_providers (name, display_name, provider_type, is_active, priority) values
    ('Chat worker', 'Chat worker', 'chat_worker', true, 20)
on conflict (lower(name)) do nothing;

-- Only into an empty provider: the slug is the admin's to change, because an OpenAI-compatible worker is asked by it.
insert into public.api_models (
    provider_id, model_name, model_version, display_name, priority, cost_per_request, capabilities, note
)
select provider.id, 'chat-worker', 'chat-worker', 'Chat worker', 100, 0,
       '{"supported_parameters": ["temperature", "top_p", "max_tokens"]}',
       'Self-hosted. Its context length is not known here; set it, so that long conversations are shortened to fit.'
  from public.api_providers as provider
 where lower(provider.name) = 'chat worker'
   and provider.provider_type = 'chat_worker'
   and not exists (select from public.api_models as known where known.provider_id = provider.id);

insert into public.api_model_prices (model_id, valid_from, input_per_token, output_per_token, source, note)
select model.id, '2025-01-01T00:00:00Z', 0, 0, 'manual',
       'Nobody charges by the token for a server of one''s own. Add a row with a later valid_from to spread its rent.'
  from public.api_models as model
  join public.api_providers as provider on provider.id = model.provider_id
 where lower(provider.name) = 'chat worker'
   and model.model_version = 'chat-worker'
on conflict (model_id, valid_from) do nothing;

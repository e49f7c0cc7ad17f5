-- OpenRouter, the manual's seven models with the manual's prices, and their living successors.
-- Prices in the table are USD per 1,000 tokens, as the manual writes them; the rows hold USD per token.
-- Facts of 2026-11-10. A row that exists is left alone, but for what it leaves unsaid.

insert into public.api_providers (name, display_name, provider_type, is_active, priority) values
    ('OpenRouter', 'OpenRouter', 'openrouter', true, 10)
on conflict (lower(name)) do nothing;

insert into public.api_models (
    provider_id, model_name, model_version, display_name, canonical_slug, is_active, priority, cost_per_request,
    context_length, max_output_tokens, capabilities, expected_latency_ms, retired_at, note
)
select provider.id, said.model_name, said.model_version, said.display_name, said.canonical_slug, said.is_active,
       said.priority, said.cost_per_request::numeric, said.context_length::integer, said.max_output_tokens::integer,
       said.capabilities::jsonb, said.expected_latency_ms::int4range, said.retired_at::timestamptz, said.note
  from public.api_providers as provider,
       (values
        ('claude-3.5-sonnet', 'anthropic/claude-3.5-sonnet', 'Claude 3.5 Sonnet', null, false, 10, '0.018',
         200000, 8192, '[5000,15000]', '2026-05-04',
         '{"supported_parameters": ["temperature", "top_p", "top_k", "max_tokens", "stop", "tools", "tool_choice"]}',
         'Gone from the catalogue; seen last on 2026-04-01.'),
        ('claude-3.5-haiku', 'anthropic/claude-3.5-haiku', 'Claude 3.5 Haiku', null, false, 20, '0.0015',
         200000, 8192, null, '2026-07-17',
         '{"supported_parameters": ["temperature", "top_p", "top_k", "max_tokens", "stop", "tools", "tool_choice"]}',
         'Gone from the catalogue; seen last on 2026-06-06. The price is the manuals; it was 0.0008 / 0.004 per 1K.'),
        ('gpt-4', 'openai/gpt-4', 'GPT-4', null, false, 10, '0.09',
         8191, 4096, '[3000,10000]', null,
         '{"supported_parameters": ["temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty", "tools", "tool_choice", "response_format"]}',
         'Still listed on 2026-11-10, but its upstream shutdown was announced for 2026-10-23.'),
        ('gpt-4-turbo', 'openai/gpt-4-turbo', 'GPT-4 Turbo', null, false, 20, '0.04',
         128000, 4096, null, '2026-11-02',
         '{"supported_parameters": ["temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty", "tools", "tool_choice", "response_format"]}',
         'Absent from the catalogue since 2026-11-02.'),
        ('gpt-3.5-turbo', 'openai/gpt-3.5-turbo', 'GPT-3.5 Turbo', null, false, 30, '0.0035',
         16385, 4096, '[2000,8000]', '2026-11-02',
         '{"supported_parameters": ["temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty", "tools", "tool_choice", "response_format"]}',
         'Absent from the catalogue since 2026-11-02. The price is the manuals; it was 0.0005 / 0.0015 per 1K.'),
        ('llama-3.1-8b-instruct', 'meta-llama/llama-3.1-8b-instruct', 'Llama 3.1 8B', null, true, 40, '0.0004',
         131072, null, '[4000,12000]', null,
         '{"supported_parameters": ["temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty", "tools", "tool_choice", "response_format", "top_k", "min_p", "repetition_penalty"]}',
         'Its price floats; the reported cost is what counts.'),
        ('mistral-7b-instruct', 'mistralai/mistral-7b-instruct', 'Mistral 7B', null, false, 50, null,
         32768, null, null, '2026-04-01',
         '{"supported_parameters": ["temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty", "tools", "tool_choice", "response_format", "top_k", "min_p", "repetition_penalty"]}',
         'Gone from the catalogue; seen last on 2026-03-03. The manual gives no price.'),
        ('claude-sonnet-4.6', 'anthropic/claude-sonnet-4.6', 'Claude Sonnet 4.6', null, true, 10, '0.018',
         1000000, 128000, null, null,
         '{"supported_parameters": ["temperature", "top_p", "top_k", "max_tokens", "stop", "tools", "tool_choice"], "exclusive_parameters": [["temperature", "top_p"]]}',
         null),
        ('claude-haiku-4.5', 'anthropic/claude-haiku-4.5', 'Claude Haiku 4.5', 'anthropic/claude-4.5-haiku-20251001', true, 20, '0.006',
         200000, 64000, null, null,
         '{"supported_parameters": ["temperature", "top_p", "top_k", "max_tokens", "stop", "tools", "tool_choice"], "exclusive_parameters": [["temperature", "top_p"]]}',
         null),
        ('claude-sonnet-5.5', 'anthropic/claude-sonnet-5.5', 'Claude Sonnet 5.5', null, true, 15, '0.012',
         1000000, 128000, null, null,
         '{"supported_parameters": ["max_tokens", "stop", "tools", "tool_choice", "reasoning"]}',
         'Takes no temperature and no top_p.'),
        ('claude-haiku-5.5', 'anthropic/claude-haiku-5.5', 'Claude Haiku 5.5', null, true, 25, '0.0006',
         1000000, 128000, null, null,
         '{"supported_parameters": ["max_tokens", "stop", "tools", "tool_choice", "reasoning"]}',
         'Takes no temperature and no top_p.'),
        ('gpt-4.1', 'openai/gpt-4.1', 'GPT-4.1', null, true, 10, '0.01',
         1047576, 32768, null, null,
         '{"supported_parameters": ["temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty", "tools", "tool_choice", "response_format"]}',
         null),
        ('gpt-4o', 'openai/gpt-4o', 'GPT-4o', null, true, 20, '0.0125',
         128000, 16384, null, null,
         '{"supported_parameters": ["temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty", "tools", "tool_choice", "response_format"]}',
         null),
        ('gpt-4.1-mini', 'openai/gpt-4.1-mini', 'GPT-4.1 mini', null, true, 30, '0.002',
         1047576, 32768, null, null,
         '{"supported_parameters": ["temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty", "tools", "tool_choice", "response_format"]}',
         null),
        ('gpt-4o-mini', 'openai/gpt-4o-mini', 'GPT-4o mini', null, true, 30, '0.00075',
         128000, 16384, null, null,
         '{"supported_parameters": ["temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty", "tools", "tool_choice", "response_format"]}',
         null),
        ('mistral-nemo', 'mistralai/mistral-nemo', 'Mistral Nemo', null, true, 40, '0.000059',
         131072, null, null, null,
         '{"supported_parameters": ["temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty", "tools", "tool_choice", "response_format", "top_k", "min_p", "repetition_penalty"]}',
         'Keeps every sampler.'),
        ('ministral-8b', 'mistralai/ministral-8b-2512', 'Ministral 8B', null, true, 40, '0.0003',
         262144, null, null, null,
         '{"supported_parameters": ["temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty", "tools", "tool_choice", "response_format", "top_k", "min_p", "repetition_penalty"]}',
         null)
       ) as said (
           model_name, model_version, display_name, canonical_slug, is_active, priority, cost_per_request,
           context_length, max_output_tokens, expected_latency_ms, retired_at,
           capabilities,
           note
       )
 where lower(provider.name) = 'openrouter'
on conflict (provider_id, model_version) do update
   set canonical_slug = coalesce(api_models.canonical_slug, excluded.canonical_slug),
       context_length = coalesce(api_models.context_length, excluded.context_length),
       max_output_tokens = coalesce(api_models.max_output_tokens, excluded.max_output_tokens),
       expected_latency_ms = coalesce(api_models.expected_latency_ms, excluded.expected_latency_ms),
       retired_at = coalesce(api_models.retired_at, excluded.retired_at),
       note = coalesce(api_models.note, excluded.note),
       capabilities = case when api_models.capabilities = '{}' then excluded.capabilities else api_models.capabilities end
 where api_models.capabilities = '{}';

-- Who answers when a caller still asks for a retired model by name.
update public.api_models as retired
   set replaced_by = successor.id
  from (values
        ('anthropic/claude-3.5-sonnet', 'anthropic/claude-sonnet-4.6'),
        ('anthropic/claude-3.5-haiku', 'anthropic/claude-haiku-4.5'),
        ('openai/gpt-4', 'openai/gpt-4.1'),
        ('openai/gpt-4-turbo', 'openai/gpt-4o'),
        ('openai/gpt-3.5-turbo', 'openai/gpt-4o-mini'),
        ('mistralai/mistral-7b-instruct', 'mistralai/ministral-8b-2512')
       ) as said (slug, successor_slug)
  join public.api_models as successor on successor.model_version = said.successor_slug
  join public.api_providers as provider on provider.id = successor.provider_id and lower(provider.name) = 'openrouter'
 where retired.model_version = said.slug
   and retired.provider_id = provider.id
   and retired.replaced_by is null;

insert into public.api_model_prices (
    model_id, valid_from, input_per_token, output_per_token, cached_input_per_token, long_context, source, note
)
select model.id, said.valid_from::timestamptz, said.input_per_1k / 1000, said.output_per_1k / 1000,
       said.cached_per_1k::numeric / 1000, said.long_context::jsonb, 'seed', said.note
  from (values
        ('anthropic/claude-3.5-sonnet', '2025-01-01T00:00:00Z', 0.003, 0.015, null, '[]', 'the manual''s price'),
        ('anthropic/claude-3.5-haiku', '2025-01-01T00:00:00Z', 0.00025, 0.00125, null, '[]', 'the manual''s price'),
        ('openai/gpt-4', '2025-01-01T00:00:00Z', 0.03, 0.06, null, '[]', 'the manual''s price'),
        ('openai/gpt-4-turbo', '2025-01-01T00:00:00Z', 0.01, 0.03, null, '[]', 'the manual''s price'),
        ('openai/gpt-3.5-turbo', '2025-01-01T00:00:00Z', 0.0015, 0.002, null, '[]', 'the manual''s price'),
        ('meta-llama/llama-3.1-8b-instruct', '2025-01-01T00:00:00Z', 0.0002, 0.0002, null, '[]', 'the manual''s price'),
        ('meta-llama/llama-3.1-8b-instruct', '2026-11-10T00:00:00Z', 0.00002, 0.00004, null, '[]', 'list price'),
        ('anthropic/claude-sonnet-4.6', '2026-11-10T00:00:00Z', 0.003, 0.015, '0.0003', '[]', 'list price'),
        ('anthropic/claude-haiku-4.5', '2026-11-10T00:00:00Z', 0.001, 0.005, '0.0001', '[]', 'list price'),
        ('anthropic/claude-sonnet-5.5', '2026-11-10T00:00:00Z', 0.002, 0.01, '0.0001', '[]', 'list price'),
        ('anthropic/claude-haiku-5.5', '2026-11-10T00:00:00Z', 0.0001, 0.0005, '0.00001', '[{"min_prompt_tokens": 100000, "input_per_token": 0.0000005, "output_per_token": 0.0000025}]', 'list price'),
        ('openai/gpt-4.1', '2026-11-10T00:00:00Z', 0.002, 0.008, '0.0005', '[]', 'list price'),
        ('openai/gpt-4o', '2026-11-10T00:00:00Z', 0.0025, 0.01, '0.00125', '[]', 'list price'),
        ('openai/gpt-4.1-mini', '2026-11-10T00:00:00Z', 0.0004, 0.0016, '0.0001', '[]', 'list price'),
        ('openai/gpt-4o-mini', '2026-11-10T00:00:00Z', 0.00015, 0.0006, '0.000075', '[]', 'list price'),
        ('mistralai/mistral-nemo', '2026-11-10T00:00:00Z', 0.000029, 0.00003, null, '[]', 'list price'),
        ('mistralai/ministral-8b-2512', '2026-11-10T00:00:00Z', 0.00015, 0.00015, '0.000015', '[]', 'list price')
       ) as said (slug, valid_from, input_per_1k, output_per_1k, cached_per_1k, long_context, note)
  join public.api_models as model on model.model_version = said.slug
  join public.api_providers as provider on provider.id = model.provider_id and lower(provider.name) = 'openrouter'
on conflict (model_id, valid_from) do nothing;

-- What answers what. Rank 10 is the manual's own choice; the ranks after it are alive.
insert into public.use_case_models (use_case, model_id, rank)
select said.use_case, model.id, said.rank
  from (values
        ('roleplay', 'anthropic/claude-3.5-sonnet', 10),
        ('roleplay', 'anthropic/claude-sonnet-4.6', 20),
        ('roleplay', 'openai/gpt-4.1', 30),
        ('roleplay', 'mistralai/mistral-nemo', 40),
        ('roleplay', 'meta-llama/llama-3.1-8b-instruct', 50),
        ('storytelling', 'openai/gpt-4', 10),
        ('storytelling', 'openai/gpt-4.1', 20),
        ('storytelling', 'anthropic/claude-sonnet-4.6', 30),
        ('storytelling', 'openai/gpt-4o', 40),
        ('prompt_enhancement', 'anthropic/claude-3.5-haiku', 10),
        ('prompt_enhancement', 'anthropic/claude-haiku-4.5', 20),
        ('prompt_enhancement', 'openai/gpt-4o-mini', 30),
        ('prompt_enhancement', 'openai/gpt-4.1-mini', 40),
        ('prompt_enhancement', 'mistralai/ministral-8b-2512', 50),
        ('casual_chat', 'openai/gpt-3.5-turbo', 10),
        ('casual_chat', 'openai/gpt-4o-mini', 20),
        ('casual_chat', 'openai/gpt-4.1-mini', 30),
        ('casual_chat', 'meta-llama/llama-3.1-8b-instruct', 40),
        ('casual_chat', 'mistralai/mistral-nemo', 50),
        ('creative_writing', 'openai/gpt-4', 10),
        ('creative_writing', 'openai/gpt-4.1', 20),
        ('creative_writing', 'anthropic/claude-sonnet-4.6', 30),
        ('creative_writing', 'openai/gpt-4o', 40)
       ) as said (use_case, slug, rank)
  join public.api_models as model on model.model_version = said.slug
  join public.api_providers as provider on provider.id = model.provider_id and lower(provider.name) = 'openrouter'
  join public.use_case_presets as preset on preset.use_case = said.use_case
on conflict (use_case, model_id) do nothing;

-- Add OpenRouter to API providers
INSERT INTO api_providers (name, provider_type, is_active) 
VALUES ('OpenRouter', 'openrouter', true);

-- Add OpenRouter models
INSERT INTO api_models (provider_id, model_name, model_version, is_active, cost_per_request) VALUES
((SELECT id FROM api_providers WHERE name = 'OpenRouter'), 'claude-3.5-sonnet', 'anthropic/claude-3.5-sonnet', true, 0.018),
((SELECT id FROM api_providers WHERE name = 'OpenRouter'), 'claude-3.5-haiku', 'anthropic/claude-3.5-haiku', true, 0.0015),
((SELECT id FROM api_providers WHERE name = 'OpenRouter'), 'gpt-4', 'openai/gpt-4', true, 0.09),
((SELECT id FROM api_providers WHERE name = 'OpenRouter'), 'gpt-4-turbo', 'openai/gpt-4-turbo', true, 0.04),
((SELECT id FROM api_providers WHERE name = 'OpenRouter'), 'gpt-3.5-turbo', 'openai/gpt-3.5-turbo', true, 0.0035);

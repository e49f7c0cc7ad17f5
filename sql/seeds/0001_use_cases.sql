-- The use cases of the manual, with its temperatures, token limits and sentences. Admins edit the rows;
-- a row that exists is left alone.

insert into openrouter.settings (key, value, description) values
    ('default_model', '"anthropic/claude-3.5-sonnet"',
     'Model of last resort, when a use case has no live model. Retired: its successor answers.'),
    ('default_params', '{"max_tokens": 500, "temperature": 0.7, "top_p": 0.9}',
     'Parameters that neither the request, nor the model row, nor the preset gives.')
on conflict (key) do nothing;

insert into public.use_case_presets (use_case, display_name, temperature, top_p, max_tokens, system_prompt) values
    ('roleplay', 'Roleplay', 0.8, 0.9, 300,
     'You are roleplaying as ${character} in the scenario: ${scenario}. Stay in character and respond naturally.'),
    ('storytelling', 'Storytelling', 0.7, 0.9, 1000,
     'You are a creative storyteller specializing in ${genre}. Create engaging, immersive stories.'),
    ('prompt_enhancement', 'Prompt enhancement', 0.5, 0.9, 200,
     'Enhance prompts for ${content_type} generation. Add cinematic details, lighting, and composition elements.'),
    ('casual_chat', 'Casual chat', 0.7, 0.9, 500, null),
    ('creative_writing', 'Creative writing', 0.8, 0.9, 1000,
     'You are a creative writing partner. Write original, vivid prose and follow the form that is asked for.')
on conflict (use_case) do nothing;

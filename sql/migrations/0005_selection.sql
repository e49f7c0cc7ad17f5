-- What a model picker reads of the ledger: the newest completions of a use case, and of a model within it.

create index completions_use_case_idx on openrouter.completions (use_case, started_at);
create index completions_model_use_idx on openrouter.completions (model_id, use_case, started_at);

-- The index above serves the foreign key as well.
drop index openrouter.completions_model_idx;

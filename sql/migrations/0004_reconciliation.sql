-- What an attempt cost is sometimes learnt only later: a stream that its reader left, an answer that never came.
-- OpenRouter's books are asked until they know, or until it is plain that they never will.

alter table openrouter.completion_attempts
    add column estimated_cost_usd numeric check (estimated_cost_usd >= 0),
    add column reconciled_at      timestamptz,
    add column reconciled_from    text check (reconciled_from in ('generation', 'broadcast')),
    add column checks             smallint not null default 0,
    -- A generation is not in the books before: 20 seconds is the shortest wait that was ever seen.
    add column next_check_at      timestamptz default now() + interval '20 seconds';

comment on column openrouter.completion_attempts.estimated_cost_usd is
    'What we took for its cost until the provider told; null where nothing was known, or nothing was corrected.';
comment on column openrouter.completion_attempts.reconciled_at is 'When the provider''s books replaced our estimate.';
comment on column openrouter.completion_attempts.reconciled_from is 'generation: we asked; broadcast: we were told.';
comment on column openrouter.completion_attempts.checks is 'How often the provider''s books were asked.';
comment on column openrouter.completion_attempts.next_check_at is
    'When they are asked next, if the cost is estimated or unknown; null: never again.';

-- Holds only what is still to be asked, so it stays small however long the ledger grows.
create index completion_attempts_due_idx on openrouter.completion_attempts (next_check_at)
 where cost_source in ('estimated', 'unknown') and generation_id is not null and next_check_at is not null;

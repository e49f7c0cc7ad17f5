"""The whole system on one machine: embedded Postgres, every door on one port, the simulated OpenRouter."""

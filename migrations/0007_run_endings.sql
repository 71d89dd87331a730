-- What the report says of a run's end beyond its kind, and whence the agent was heard last.
ALTER TABLE run_verdicts ADD COLUMN ending_json TEXT;
ALTER TABLE run_timeline ADD COLUMN last_contact_ip TEXT;

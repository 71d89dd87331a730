-- The token or user that sent a waiver, or took it back: `operator` and `withdrawn_by` are what was typed. NULL in rows
-- from before this was kept.
ALTER TABLE waivers ADD COLUMN caller TEXT;
ALTER TABLE waivers ADD COLUMN withdrawn_caller TEXT;

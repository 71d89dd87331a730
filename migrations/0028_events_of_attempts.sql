-- Lines of the log up to this key are an earlier attempt's: what they tell of the stage is no longer so. NULL in rows from
-- before this was kept.
ALTER TABLE stage_attempts ADD COLUMN last_event_id INTEGER;

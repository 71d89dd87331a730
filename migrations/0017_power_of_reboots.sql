-- What became of the power of a machine that was away in a planned reboot: JSON, absent where nobody touched it.
ALTER TABLE planned_reboots ADD COLUMN power_json TEXT;

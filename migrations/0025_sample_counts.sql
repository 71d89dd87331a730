-- How many samples each run has, kept beside them: to count a million anew for every look at a page takes long.
CREATE TABLE run_sample_counts (
    run_id  INTEGER PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    samples INTEGER NOT NULL
);
INSERT INTO run_sample_counts (run_id, samples) SELECT run_id, COUNT(*) FROM measurements GROUP BY run_id;

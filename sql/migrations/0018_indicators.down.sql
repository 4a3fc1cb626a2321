DROP TABLE indicator_marks;
DROP TABLE indicators_cache;

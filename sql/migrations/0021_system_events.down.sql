DROP TRIGGER ingestd_failover_told ON ingest_leases;
DROP FUNCTION ingestd_tell_failover();
DROP TRIGGER ingestd_rejections_told ON rejected_records;
DROP FUNCTION ingestd_tell_rejections();
DROP TRIGGER ingestd_gaps_told ON feed_gaps;
DROP FUNCTION ingestd_tell_gaps();

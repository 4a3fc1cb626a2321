DROP TRIGGER ingestd_kairos_orders ON public.orders;
DROP FUNCTION kairos.keep_order();
DROP TABLE kairos.orders;
DROP FUNCTION kairos.uuid_of(text);
DROP FUNCTION kairos.sha1(bytea);

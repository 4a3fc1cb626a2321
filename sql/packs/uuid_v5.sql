-- Version-5 UUIDs without an extension: the same as Python's uuid.uuid5(). They are made in the first schema of
-- search_path. A digest takes about 0.2 ms, which is for orders, not for ticks.

CREATE FUNCTION sha1(message bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mask   CONSTANT bigint := 4294967295;
    padded bytea;
    h      bigint[] := ARRAY[1732584193, 4023233417, 2562383102, 271733878, 3285377520];
    w      bigint[];
    a      bigint;
    b      bigint;
    c      bigint;
    d      bigint;
    e      bigint;
    f      bigint;
    k      bigint;
    mixed  bigint;
BEGIN
    padded := message || '\x80'::bytea || decode(repeat('00', (119 - length(message) % 64) % 64), 'hex')
              || int8send(length(message) * 8::bigint);
    FOR block IN 0 .. length(padded) / 64 - 1 LOOP
        w := ARRAY[]::bigint[];
        FOR i IN 1 .. 16 LOOP
            w[i] := 0;
            FOR part IN 0 .. 3 LOOP
                w[i] := (w[i] << 8) | get_byte(padded, block * 64 + (i - 1) * 4 + part);
            END LOOP;
        END LOOP;
        FOR i IN 17 .. 80 LOOP
            mixed := w[i - 3] # w[i - 8] # w[i - 14] # w[i - 16];
            w[i] := ((mixed << 1) | (mixed >> 31)) & mask;
        END LOOP;
        a := h[1]; b := h[2]; c := h[3]; d := h[4]; e := h[5];
        FOR i IN 1 .. 80 LOOP
            IF i <= 20 THEN
                f := (b & c) | ((~b) & d);
                k := 1518500249;
            ELSIF i <= 40 THEN
                f := b # c # d;
                k := 1859775393;
            ELSIF i <= 60 THEN
                f := (b & c) | (b & d) | (c & d);
                k := 2400959708;
            ELSE
                f := b # c # d;
                k := 3395469782;
            END IF;
            mixed := ((((a << 5) | (a >> 27)) & mask) + f + e + k + w[i]) & mask;
            e := d;
            d := c;
            c := ((b << 30) | (b >> 2)) & mask;
            b := a;
            a := mixed;
        END LOOP;
        h := ARRAY[(h[1] + a) & mask, (h[2] + b) & mask, (h[3] + c) & mask, (h[4] + d) & mask, (h[5] + e) & mask];
    END LOOP;
    RETURN (SELECT string_agg(substring(int8send(word) FROM 5 FOR 4), NULL ORDER BY place)
            FROM unnest(h) WITH ORDINALITY AS words (word, place));
END
$$;

-- The text itself where it is a UUID, else the version-5 UUID of it in the namespace of ingestd's events.
CREATE FUNCTION uuid_of(name text) RETURNS uuid
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
DECLARE
    namespace CONSTANT uuid := '8b0d3bd5-6a3c-5f0b-9c53-2f1f0f3f7f6a';
    digest bytea;
BEGIN
    IF name ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
        RETURN name::uuid;
    END IF;
    digest := sha1(uuid_send(namespace) || convert_to(name, 'UTF8'));
    digest := set_byte(digest, 6, (get_byte(digest, 6) & 15) | 80);
    digest := set_byte(digest, 8, (get_byte(digest, 8) & 63) | 128);
    RETURN encode(substring(digest FROM 1 FOR 16), 'hex')::uuid;
END
$$;

-- Clipper's database. Run once, by whoever may create objects for the role
-- `clipper`, in the database that it owns.
--
-- Nobody logs in as `clipper`: it owns everything, and the logins that the
-- backend uses, one after the other, are members of it. So a login can be
-- replaced without touching a single table.

BEGIN;

SET LOCAL ROLE clipper;

CREATE TABLE IF NOT EXISTS clips (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    streamer text   NOT NULL,
    title    text   NOT NULL,
    seconds  int    NOT NULL CHECK (seconds BETWEEN 1 AND 60)
);

INSERT INTO clips (streamer, title, seconds)
SELECT 'streamer_' || n % 7, 'clip number ' || n, 10 + n % 50
FROM generate_series(1, 200) AS n
WHERE NOT EXISTS (SELECT FROM clips);

-- The seeds of second factors. The id of the key that encrypted a row stands beside it.
CREATE TABLE IF NOT EXISTS mfa_seeds (
    user_id bigint PRIMARY KEY,
    key_id  text  NOT NULL,
    nonce   bytea NOT NULL,
    sealed  bytea NOT NULL
);

COMMIT;

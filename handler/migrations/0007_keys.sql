-- API keys: how other programs of the operator use the chat for its users.

-- name: what the operator calls it. hash: the SHA-256 of the key, which is 256 random bits; the key itself is nowhere. To
-- revoke a key, its row is deleted. scopes: what it may do, `users` and `events`, separated by a comma. created_at,
-- last_used: Unix seconds, the latter exact to the hour, or null.
create table api_keys (
    id         integer primary key,
    name       text not null unique,
    hash       blob not null unique,
    scopes     text not null,
    created_at integer not null,
    last_used  integer
);

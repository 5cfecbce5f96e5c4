-- How an app brings its own users: with API keys, and with an identity provider.

-- == API keys ==

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

-- == Identity providers ==

-- A user whom an identity provider knows. issuer, subject: the claims iss and sub of its tokens, which together never
-- change and never come again. Such a user has a text in the place of the password hash that is no hash.
create table identities (
    issuer  text not null,
    subject text not null,
    user_id integer not null,
    primary key (issuer, subject)
);

-- "Which identities has a user": one, or none.
create index identities_by_user on identities (user_id);

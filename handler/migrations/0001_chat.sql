-- The tables of the first backend, so that a file it wrote is adopted as it stands ("if not exists"), and the
-- indexes and tables that this backend needs beside them. Other tools read users, contacts, conversations, members
-- and messages while the server runs: their columns keep their names and meanings.
--
-- There are no foreign keys: every statement guards itself, and libsql, which enforces them by default, would pay for
-- them at every message.

-- password: a PHC string of argon2. is_online, last_online: what `presence` says, for readers of the file.
create table if not exists users (
    id          integer primary key,
    username    text not null unique,
    fullname    text not null,
    password    text not null,
    is_online   integer not null default 0,
    last_online integer default (unixepoch()),
    created_at  integer default (unixepoch())
);

-- Contacts are mutual: each pair is two rows.
create table if not exists contacts (
    user_id    integer not null,
    contact_id integer not null,
    primary key (user_id, contact_id)
);

create table if not exists conversations (
    id   integer primary key,
    name text not null
);

-- The implicit rowid is the order of joining.
create table if not exists members (
    conversation_id integer not null,
    user_id         integer not null,
    primary key (conversation_id, user_id)
);

-- Ids rise in the order of commits. reply_id: a message of the same conversation.
create table if not exists messages (
    id              integer primary key,
    sender_id       integer not null,
    conversation_id integer not null,
    reply_id        integer,
    sent_at         integer default (unixepoch()),
    content         text not null
);

-- "The conversations of a user": asked at every connect.
create index if not exists members_by_user on members (user_id, conversation_id);

-- "The latest messages of a conversation", and how many of them others have sent.
create index if not exists messages_by_conversation on messages (conversation_id, id, sender_id);

-- "Who was online when the host died": holds only those online, however many users there are.
create index if not exists users_online on users (id) where is_online = 1;

-- A process that serves sockets. seen_at: Unix seconds of its last sign of life, renewed while it has sockets, so that
-- last_online is right for the users of a host that was killed.
create table hosts (
    id      text primary key,
    seen_at integer not null
) without rowid;

-- How many sockets a user has open on a host. A user is online while a row exists.
create table presence (
    user_id integer not null,
    host_id text not null,
    sockets integer not null,
    primary key (user_id, host_id)
) without rowid;
create index presence_by_host on presence (host_id);

-- Accounts that people control, and how people find each other and what was said.

-- == Logins ==

-- A row for each login that has not ended. To end a login, its row is deleted.
-- number: rises in the order of the logins. id: random, so that it never comes again, because login
-- tokens name it for as long as they last. lifetime: the seconds that each of its tokens lasts.
-- last_seen: Unix seconds, to the hour. ends_at: Unix seconds; the row may be deleted from then on,
-- because its tokens have expired and no socket of it was open lately. user_agent: what the client
-- said of itself.
create table sessions (
    number     integer primary key,
    id         integer not null unique,
    user_id    integer not null,
    lifetime   integer not null,
    created_at integer not null,
    last_seen  integer not null,
    ends_at    integer not null,
    user_agent text not null
);

-- "Which sessions has a user."
create index sessions_by_user on sessions (user_id);

-- "Which sessions may be deleted."
create index sessions_by_end on sessions (ends_at);

-- tokens_from: when the user last changed the password, in Unix seconds, or null. A login token that
-- names no session counts only if it says that it was made after that.
alter table users add column tokens_from integer;

-- == Deleted accounts ==

-- == Profiles, blocks and reports ==

-- == Search ==

-- == Mentions ==

-- "Whom did this message mention": an edit finds that out without a look at each list of ids.
create index mentions_by_message on mentions (message_id);

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

-- An account that its user has deleted. Its row in users is gone, so nothing that looks for a user finds it, and what
-- it has sent is shown as sent by "deleted". This row keeps the username and what looks like it from being registered,
-- and the id from being given to somebody else.
--
-- deleted_at: Unix seconds. due_at: what the account still has in other tables is erased piece by piece, by any host,
-- from this time on (Unix seconds, by the database's clock); null if all is done. left_through: the id of the last of
-- its direct conversations that was told. reactions_through: the rowid in reactions up to which its own are erased.
create table deleted_accounts (
    user_id           integer primary key,
    username          text not null,
    skeleton          text not null,
    deleted_at        integer not null,
    due_at            integer,
    left_through      integer not null default 0,
    reactions_through integer not null default 0
);

-- "May this name be registered." Asked at registrations only.
create index deleted_accounts_by_skeleton on deleted_accounts (skeleton);
create index deleted_accounts_by_username on deleted_accounts (username);

-- "Which accounts are not erased yet": holds only those.
create index deleted_accounts_due on deleted_accounts (due_at) where due_at is not null;

-- The name that stands for all of them belongs to nobody. No user has the id 0.
insert into deleted_accounts (user_id, username, skeleton, deleted_at) values (0, 'deleted', 'deleted', 0);

-- SQLite gives the largest id again after its row was deleted, and another program may insert any name. Whoever got the
-- id of a deleted account would get its messages. This program never comes here: it chooses a free id itself.
create trigger users_are_not_deleted_accounts after insert on users
when exists (select 1 from deleted_accounts where user_id = new.id)
    or exists (select 1 from deleted_accounts where username = new.username)
begin
    select raise(abort, 'the id or the username belongs to a deleted account');
end;

-- A downgrade stores a deleted account as one with this password, which nobody can log in with. What the account still
-- has is looked for again.
insert into deleted_accounts (user_id, username, skeleton, deleted_at, due_at)
select id, username, coalesce(skeleton, username), coalesce(last_online, 0), unixepoch() from users where password = 'deleted';
delete from users where password = 'deleted';

-- == Profiles, blocks and reports ==

-- == Search ==

-- == Mentions ==

-- "Whom did this message mention": an edit finds that out without a look at each list of ids.
create index mentions_by_message on mentions (message_id);

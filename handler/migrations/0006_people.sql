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

-- reachable_by: 0 if everyone may put the user into contacts and conversations, 1 if only contacts
-- may.
-- banned_at: Unix seconds, or null. A banned user cannot log in; what the user has written stays.
-- has_words: 1 if the user's words are in user_words. It is 0 in files of earlier releases, and if
-- another program has stored the account; a host adds the words then. It is 0 for banned users too,
-- whom nobody finds.
alter table users add column reachable_by integer not null default 0;
alter table users add column banned_at integer;
alter table users add column has_words integer not null default 0;

-- "Whose words are missing": usually empty.
create index users_without_words on users (id) where has_words = 0 and banned_at is null;

-- What search_users finds: the username, and the fullname from each of its first words on, folded:
-- without case and accents, and cut. The index has everything that a search reads.
create table user_words (
    user_id integer not null,
    word    text not null,
    primary key (user_id, word)
);
create index user_words_by_word on user_words (word, user_id);

-- user_id has blocked blocked_id. The implicit rowid is the order of blocking.
create table blocks (
    user_id    integer not null,
    blocked_id integer not null,
    primary key (user_id, blocked_id)
);

-- is_silent: 1 in a direct conversation while one of the two has blocked the other. It is kept here,
-- so that a message to a group pays nothing for blocks.
alter table conversations add column is_silent integer not null default 0;

-- reported_at, closed_at: Unix seconds; closed_at is null while the report is open. content: that of
-- the message when it was reported, so that nobody escapes by an edit; it is erased when the report is
-- closed. outcome: what the operator did: 'closed', or 'deleted', 'banned' or both with a comma.
create table reports (
    id          integer primary key,
    message_id  integer not null,
    reporter_id integer not null,
    reason      text not null,
    content     text not null,
    reported_at integer not null,
    closed_at   integer,
    outcome     text
);

-- "Who has reported this message", and "how many reports of a user are open". They hold only open ones.
create unique index reports_open on reports (message_id, reporter_id) where closed_at is null;
create index reports_open_by_reporter on reports (reporter_id) where closed_at is null;

-- == Search ==

-- The words of messages, as handler/src/search/tokens.rs makes them, by the id of the message. It
-- holds no texts, so a row is removed by naming its tokens again. It is filled behind the messages;
-- it can be emptied and filled again, and no other table depends on it.
-- columnsize: nothing needs the numbers of words.
create virtual table search using fts5 (words, content = '', columnsize = 0, tokenize = 'ascii');

-- What is removed is overwritten at once, and not only marked as removed.
insert into search (search, rank) values ('secure-delete', 1);

-- One row: the messages whose ids are above low and at most high are in the table search. The later
-- ones are added from the oldest, the earlier ones from the newest.
-- words_version: of the program that filled it, or 0 if it was never filled. If a program makes
-- other tokens, it empties the table first.
-- is_clearing: 1 while the table is emptied, in several steps; nothing may read it then.
-- is_off: 1 if the operator does not want the search.
create table search_state (
    id            integer primary key,
    low           integer not null,
    high          integer not null,
    words_version integer not null default 0,
    is_clearing   integer not null default 0,
    is_off        integer not null default 0
);
insert into search_state (id, low, high) select 1, coalesce(max(id), 0), coalesce(max(id), 0) from messages;

-- A row for each message of the table search that was edited or deleted since. content: the text
-- whose words are in the table search. The row is removed with them, a moment later.
create table search_stale (
    message_id integer primary key,
    content    text not null
);

-- == Mentions ==

-- "Whom did this message mention": an edit finds that out without a look at each list of ids.
create index mentions_by_message on mentions (message_id);

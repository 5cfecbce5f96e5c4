-- Accounts that people control, and how people find each other and what was said.

-- == Logins ==

-- == Deleted accounts ==

-- == Profiles, blocks and reports ==

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

-- Takes a database from version 6 back to version 5.

-- == Mentions ==
drop index mentions_by_message;

-- == Search ==
drop table search;
drop table search_state;
drop table search_stale;

-- == Profiles, blocks and reports ==

-- Blocks, bans and reports are lost: the release before does not know them.
drop table reports;
alter table conversations drop column is_silent;
drop table blocks;
drop table user_words;
drop index users_without_words;
alter table users drop column has_words;
alter table users drop column banned_at;
alter table users drop column reachable_by;

-- == Deleted accounts ==
-- The previous release knows no deleted accounts. It gets accounts with a password that nobody can log in with, so that
-- their ids and names stay taken. It shows their names again.
drop trigger users_are_not_deleted_accounts;
insert into users (id, username, fullname, password, last_online, created_at, skeleton)
select user_id, username, '', 'deleted', deleted_at, deleted_at, skeleton from deleted_accounts where user_id > 0;
drop table deleted_accounts;

-- == Logins ==

alter table users drop column tokens_from;
drop table sessions;

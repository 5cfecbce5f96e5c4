-- Takes a database from version 6 back to version 5.

-- == Mentions ==
drop index mentions_by_message;

-- == Search ==

-- == Profiles, blocks and reports ==

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

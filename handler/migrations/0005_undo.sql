-- Takes a database from version 5 back to version 4. Reactions, mentions and roles are lost, and
-- that a conversation is direct. Deleted messages stay, with empty content.
drop index members_with_role;
drop index conversations_direct;
drop table changed_messages;
drop table members_changes;
drop table mentions;
drop table reactions;
alter table messages drop column changed_rev;
alter table messages drop column mentions;
alter table conversations drop column created_at;
alter table conversations drop column direct;
alter table conversations drop column member_count;
alter table conversations drop column changed_by;
alter table members drop column role;
alter table members drop column joined_rev;
drop index users_by_skeleton;
alter table users drop column skeleton;

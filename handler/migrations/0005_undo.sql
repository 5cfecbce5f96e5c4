-- Takes a database from version 5 back to version 4.
drop table changed_messages;
drop table members_changes;
alter table messages drop column changed_rev;

-- Back from version 5 to 4.
drop table changed_messages;
drop table members_changes;
alter table messages drop column changed_rev;

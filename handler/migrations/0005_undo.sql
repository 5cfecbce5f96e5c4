-- Back from version 5 to 4.
drop index messages_by_changed_rev;
alter table messages drop column changed_rev;
alter table conversations drop column members_rev;

-- Takes a database from version 9 back to version 8. Nothing is lost: an upgrade counts again.
drop trigger members_are_counted;
drop trigger former_members_are_not_counted;
drop table conversation_counts;

-- Takes a database from version 6 back to version 5.

-- == Search ==

-- == Profiles, blocks and reports ==

-- == Deleted accounts ==

-- == Logins ==

alter table users drop column tokens_from;
drop table sessions;

-- Takes a database from version 6 back to version 5.

-- == Mentions ==
drop index mentions_by_message;

-- == Search ==

-- == Profiles, blocks and reports ==

-- == Deleted accounts ==

-- == Logins ==

alter table users drop column tokens_from;
drop table sessions;

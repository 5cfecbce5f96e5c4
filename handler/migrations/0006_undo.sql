-- Takes a database from version 6 back to version 5.

-- == Search ==
drop table search;
drop table search_state;
drop table search_stale;

-- == Profiles, blocks and reports ==

-- == Deleted accounts ==

-- == Logins ==

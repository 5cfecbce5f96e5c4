-- Accounts that people control, and how people find each other and what was said.

-- == Logins ==

-- == Deleted accounts ==

-- == Profiles, blocks and reports ==

-- == Search ==

-- == Mentions ==

-- "Whom did this message mention": an edit finds that out without a look at each list of ids.
create index mentions_by_message on mentions (message_id);

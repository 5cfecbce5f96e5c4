-- Accounts that people control, and how people find each other and what was said.

-- == Logins ==

-- == Deleted accounts ==

-- == Profiles, blocks and reports ==

-- == Search ==

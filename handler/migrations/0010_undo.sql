-- Takes a database from version 10 back to version 9.
drop index mentions_by_conversation;
create index mentions_by_conversation on mentions (user_id, conversation_id, rev);

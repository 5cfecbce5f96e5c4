-- Back from version 4 to 3: the indexes as they were.
drop index messages_by_rev;
create index messages_by_conversation on messages (conversation_id, id, sender_id);
create index messages_by_rev on messages (conversation_id, rev);

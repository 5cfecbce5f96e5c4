-- Within a conversation the revs of messages rise with their ids, so one index serves both orders. An index costs a
-- message as much as the table does: for each conversation it is another page that changes.
--
-- A message's rev is the one it was made with. Whatever may change a message later needs a column of its own for that.
drop index messages_by_conversation;
drop index messages_by_rev;

-- "The messages of a conversation, in order", "what changed in it since", and how many of them others have sent.
create index messages_by_rev on messages (conversation_id, rev, sender_id);
